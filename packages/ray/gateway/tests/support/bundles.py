"""The users' bundles of the tests: what hosts get as their working_dir."""

import hashlib
import io
import json
import pathlib
import urllib.request
import zipfile

from .fake import spec

PYTHON = """
import asyncio, dataclasses, os, pathlib, signal, subprocess, sys, threading, time
import effect_ray

def add(a, b):
    return a + b

async def add_later(a, b):
    await asyncio.sleep(0.001)
    return a + b

def length(value):
    return len(value)

def keys(**given):
    return sorted(given)

def diverge(step):
    effect_ray.fail("Diverged", step=step, why="NaN")

async def diverge_later(step):
    effect_ray.fail("Diverged", step=step)

def broken():
    raise ValueError("no\\0good \\ud800")

async def broken_later():
    raise SystemExit(3)

@dataclasses.dataclass
class Point:
    x: int
    y: int

def values(kind):
    import numpy
    return {
        "numpy": lambda: {"sum": numpy.arange(4).sum(), "all": numpy.arange(3), "mean": numpy.float32(0.5)},
        "dataclass": lambda: [Point(1, 2)],
        "nan": lambda: float("nan"),
        "numpy-nan": lambda: numpy.array([1.0, numpy.inf]),
        "object": lambda: object(),
        "surrogate": lambda: "\\ud800",
        "large": lambda: "x" * 3_000_000,
        "chunked": lambda: "x" * 1_000_000,
        "text": lambda: "käse \\u2028 \\0",
        "none": lambda: None,
    }[kind]()

class Sullen(Exception):
    def __str__(self):
        raise RuntimeError("no words")

def sullen():
    raise Sullen()

async def sullen_later():
    raise Sullen()

class Fragile:
    def tolist(self):
        raise MemoryError("no list")

def fragile():
    return Fragile()

def fragile_error():
    effect_ray.fail("Fragile", value=Fragile())

class Shapeless(effect_ray.TaskFailure):
    def __init__(self):
        pass

def shapeless():
    raise Shapeless()

async def shapeless_later():
    raise Shapeless()

class Untouchable:
    @property
    def __class__(self):
        raise RuntimeError("no class")

def untouchable():
    return Untouchable()

def large_error():
    effect_ray.fail("Large", text="x" * 3_000_000)

def about():
    attempt = effect_ray.current()
    return {
        "task": attempt.task, "execution": attempt.execution, "fence": attempt.fence, "attempt": attempt.attempt,
        "queue": attempt.queue, "traceparent": attempt.traceparent, "thread": threading.current_thread().name, "pid": os.getpid(),
        "cwd": sorted(os.listdir(".")), "env": {name: value for name, value in os.environ.items()},
    }

async def about_later():
    return about()

async def forever():
    await asyncio.Event().wait()

async def stubborn(begun):
    pathlib.Path(begun).touch()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "kept on"

async def cancelled_by_itself():
    raise asyncio.CancelledError("of its own")

async def cancelled_inside():
    inner = asyncio.create_task(asyncio.sleep(600))
    await asyncio.sleep(0)
    inner.cancel("of its own")
    await inner

async def exits_inside(how):
    async def exits():
        raise {"exit": SystemExit, "interrupt": KeyboardInterrupt}[how]("no more")
    await asyncio.create_task(exits())

async def exits_in_a_callback():
    loop, gone_on = asyncio.get_running_loop(), asyncio.Event()
    loop.call_soon(sys.exit, 3)
    loop.call_soon(gone_on.set)
    await gone_on.wait()
    return "gone on"

async def forks_inside():
    async def exits():
        sys.exit(0)
    child = os.fork()
    if child == 0:
        await asyncio.gather(asyncio.Event().wait(), exits())
    return child

def polite():
    attempt = effect_ray.current()
    while True:
        attempt.check()
        time.sleep(0.005)

def stuck():
    while True:
        time.sleep(0.05)

def starts(file):
    subprocess.run(["sh", "-c", f"echo $$ > {file}; sleep 600; true"])

def forks(how):
    child = os.fork()
    if child == 0 and how == "exit":
        sys.exit(0)
    return child

async def forks_later(how):
    return forks(how)

def in_a_child(how, fails):
    if how == "subprocess":
        program = "import effect_ray, tasks; tasks.add(1, 2); print(effect_ray.fail.__module__)"
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    import concurrent.futures, multiprocessing
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context(how)) as pool:
        return pool.submit(diverge if fails else child, 4).result()

def child(step):
    return effect_ray.fail.__module__

def handles_signals():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append("handled"))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    return seen[0]

async def handles_signals_later():
    return handles_signals()

def say(megabytes, end):
    for _ in range(megabytes * 64):
        print("x" * 16383, end=end, flush=True)
    return os.getpid()

def die():
    os._exit(9)

def uses_ray():
    import ray
    return ray.get(ray.put(41)) + 1
"""


def upload(head, files):
    """Puts a package of these files into Ray; answers its address."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return put(head, buffer.getvalue())


def put(head, data):
    """Puts a zip into Ray by its REST interface, as the runner does; answers its address."""
    name = f"_ray_pkg_{hashlib.sha1(data).hexdigest()}.zip"
    request = urllib.request.Request(
        f"http://127.0.0.1:{head.dashboard}/api/packages/gcs/{name}", data, {"Authorization": f"Bearer {head.token}"}, method="PUT"
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status == 200
    return f"gcs://{name}"


def python_pool(head, ref=1, **changes):
    """A pool of Python hosts with the tests' module."""
    return spec(ref, runtime="python", package=upload(head, {"tasks.py": PYTHON}), **changes)


def run_body(function, payload, keywords=True, **rest):
    """The body of a RUN for a function of the tests' module. A payload in bytes goes in as it is.

    `keywords`: the names of the arguments, or whether they are those of the payload.
    """
    if isinstance(keywords, bool):
        keywords = list(payload) if keywords else None
    header = {
        "task": function, "attempt": 1, "queue": "default", "suspect": False, "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "module": "tasks", "function": function, "keywords": keywords, **rest,
    }
    return json.dumps(header).encode() + b"\n" + (payload if isinstance(payload, bytes) else json.dumps(payload).encode())


def node_pool(head, ref=1, **changes):
    """A pool of Node hosts with the tests' program."""
    program = (pathlib.Path(__file__).parent / "host.mjs").read_text()
    return spec(ref, runtime="node", package=upload(head, {"host.mjs": program}), **changes)


def does(what, **more):
    """The body of a RUN for the tests' Node host."""
    header = {"task": "Test", "attempt": 1, "queue": "default", "suspect": False}
    return json.dumps(header).encode() + b"\n" + json.dumps({"does": what, **more}).encode()
