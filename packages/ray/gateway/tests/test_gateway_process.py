"""The gateway as a process: what it listens on, how it ends, and what it leaves behind."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from effect_ray_gateway import fleet
from support.bundles import does, node_pool, python_pool, run_body
from support.poll import until
from support.processes import alive, having, is_loopback, listening, named
from support.ray_head import RayHead
from support.real import GATEWAY, RealGateway

SMALL = {"placement": {"cpus": 0.1}}


def both(gateway, head):
    """A supervisor, a Node host and a Python host that each run a call; the calls and all processes of the hosts."""
    supervisor = gateway.supervisor()
    node, python = supervisor.open(node_pool(head, 1, **SMALL)), supervisor.open(python_pool(head, 2, **SMALL))
    node_call, python_call = supervisor.run(node, does("about")), supervisor.run(python, run_body("about", {}))
    here, there = supervisor.result(node_call).json, supervisor.result(python_call).json
    calls = [supervisor.run(node, does("hang")), supervisor.run(python, run_body("forever", {}))]
    for call in calls:
        supervisor.started(call)
    return supervisor, calls, [here["pid"], here["parent"], there["pid"]]


def test_everything_listens_on_loopback_only(gateway, ray_head):
    both(gateway, ray_head)
    pids = having(ray_head.token)
    assert named(pids, "gcs_server") and named(pids, "raylet") and gateway.process.pid in pids
    addresses = listening(pids)
    assert len(addresses) >= 5
    assert [address for address in addresses if not is_loopback(address)] == []
    assert gateway.address[0] == "127.0.0.1"


def test_prints_one_line_and_nothing_secret(gateway):
    assert set(gateway.found) == {"effect_ray_gateway", "host", "port", "protocol", "instance"}
    assert gateway.found["effect_ray_gateway"] == 1 and gateway.found["protocol"] == 1
    assert not os.path.exists(os.path.join(gateway.folder, "secret"))
    log = gateway.read_log()
    assert gateway.secret not in log and "API_KEY" not in log
    assert all(json.loads(line)["message"] for line in log.splitlines() if line.startswith("{"))


def test_a_host_that_hangs_is_fenced_and_killed(ray_head):
    with RealGateway(ray_head, pingSeconds=0.2, silentSeconds=1) as gateway:
        supervisor = gateway.supervisor()
        pool = supervisor.open(node_pool(ray_head, **SMALL))
        here = supervisor.result(supervisor.run(pool, does("about"))).json
        call = supervisor.run(pool, does("spin"))
        assert supervisor.result(call).json["kind"] == "heartbeat"
        until(lambda: not alive(here["pid"]) and not alive(here["parent"]), "child and actor are gone", 10)
        # So it is with a process that is stopped as a whole.
        here = supervisor.result(supervisor.run(pool, does("about"))).json
        os.kill(here["pid"], signal.SIGSTOP)
        assert supervisor.result(supervisor.run(pool, does("about"))).json["kind"] == "heartbeat"
        until(lambda: not alive(here["pid"]) and not alive(here["parent"]), "child and actor are gone", 10)


def test_an_environment_that_is_set_up_takes_no_host_of_another_pool_and_a_shortage_does(tmp_path):
    package, gate = tmp_path / "slow", tmp_path / "gate"
    package.mkdir()
    (package / "setup.py").write_text(
        f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.1)\n"
        "from setuptools import setup\nsetup(name='slow', version='1')\n"
    )
    with RayHead(cpus=2) as head, RealGateway(head) as gateway:
        supervisor = gateway.supervisor()
        # Together they occupy the whole node, so nothing is free while the environment is set up.
        steady = supervisor.open(node_pool(head, 1, placement={"cpus": 1.9}))
        slow = supervisor.open(python_pool(head, 2, placement={"cpus": 0.1, "pip": [str(package)]}))
        here = supervisor.result(supervisor.run(steady, does("about"))).json
        call = supervisor.run(slow, run_body("add", {"a": 1, "b": 2}))
        supervisor.next(lambda frame: frame.type == "POOL_STATE" and "sets up its environment" in frame.json["detail"], 60)
        time.sleep(3 * fleet.WAITING_SECONDS)
        assert supervisor.result(supervisor.run(steady, does("about"))).json["pid"] == here["pid"]
        gate.touch()
        assert supervisor.result(call, 120).json == 3
        short = supervisor.open(node_pool(head, 3, placement={"cpus": 2}))
        call = supervisor.run(short, does("about"))
        supervisor.next(lambda frame: frame.type == "POOL_STATE" and "available" in frame.json["detail"], 60)
        assert supervisor.result(call, 120).type == "RESULT"


def test_sigterm_gives_back_what_runs_and_leaves_no_process(ray_head):
    with RealGateway(ray_head, drainSeconds=0.2) as gateway:
        supervisor, calls, pids = both(gateway, ray_head)
        gateway.process.send_signal(signal.SIGTERM)
        for call in calls:
            assert supervisor.result(call, 10).json == {"kind": "terminated", "detail": "the gateway was stopped", "collateral": True}
        assert supervisor.next("BYE")
        until(gateway.gone, "the gateway has ended", 10)
        assert gateway.process.returncode == 0
        until(lambda: not any(map(alive, pids)), "no process of the hosts is left", 10)


def test_kill_9_of_the_gateway_leaves_no_process(ray_head):
    with RealGateway(ray_head) as gateway:
        _, _, pids = both(gateway, ray_head)
        gateway.process.kill()
        until(lambda: not any(map(alive, pids)), "no process of the hosts is left", 10)


def test_ends_itself_when_nobody_needs_it(ray_head):
    with RealGateway(ray_head, idleSeconds=0.2) as gateway:
        supervisor = gateway.supervisor()
        supervisor.send("BYE")
        until(gateway.gone, "the gateway has ended", 10)
        assert gateway.process.returncode == 0


def test_says_what_is_wrong_with_its_package():
    with tempfile.TemporaryDirectory() as folder:
        for config, words in (("{}", "deployment"), ('{"deployment":"a","epoch":1}', "secret")):
            pathlib.Path(folder, "config.json").write_text(config)
            env = {**os.environ, "PYTHONPATH": str(GATEWAY), "RAY_ADDRESS": "127.0.0.1:1"}
            done = subprocess.run(
                [sys.executable, "-m", "effect_ray_gateway"], cwd=folder, env=env, capture_output=True, text=True
            )
            assert done.returncode == 2 and words in json.loads(done.stderr)["error"] and done.stdout == ""


@pytest.mark.ends_ray
def test_the_death_of_the_raylet_ends_the_calls_and_leaves_no_process(ray_head):
    with RealGateway(ray_head) as gateway:
        supervisor, calls, pids = both(gateway, ray_head)
        raylets = [pid for pid in named(having(ray_head.token), "raylet/raylet") if pid not in pids]
        assert raylets
        for pid in raylets:
            os.kill(pid, signal.SIGKILL)
        for call in calls:
            assert supervisor.result(call).type == "LOST"
        until(lambda: not any(map(alive, pids)), "no process of the hosts is left")
        # This Ray is broken now: nothing of it is asked to end in order.
        gateway.process.kill()
        ray_head.kill()
