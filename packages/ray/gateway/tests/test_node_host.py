"""Node hosts on a real Ray: the child, its surroundings, and the table of deaths."""

import os
import signal

import pytest

from support.bundles import does, node_pool
from support.poll import until
from support.processes import alive

SHARED = {"env": {"API_KEY": "k"}, "placement": {"cpus": 0.1, "memory": 200 << 20}}


@pytest.fixture(scope="module")
def served(gateway, ray_head):
    """A supervisor with a pool of one Node host."""
    supervisor = gateway.supervisor()
    supervisor.pool = supervisor.open(node_pool(ray_head, **SHARED))
    return supervisor


def about(served):
    return served.result(served.run(served.pool, does("about"))).json


def hang(served):
    """A call that runs and does not end by itself."""
    call = served.run(served.pool, does("hang"))
    served.started(call)
    return call


def test_runs_the_bundle_as_a_child_in_the_actors_process_group(served):
    here = about(served)
    up = [frame.json for frame in served.inbox if frame.type == "HOST_UP"]
    assert up[-1]["pid"] == here["pid"] and up[-1]["node"] == "127.0.0.1"
    assert os.getpgid(here["pid"]) == os.getpgid(here["parent"])
    assert os.path.exists(os.path.join(here["cwd"], "host.mjs"))


def test_the_childs_environment_is_an_allow_list(served, ray_head):
    here = about(served)
    assert here["env"]["API_KEY"] == "k" and here["env"]["CUDA_VISIBLE_DEVICES"] == ""
    assert not [name for name in here["env"] if name.startswith("RAY_")]
    with open(f"/proc/{here['pid']}/environ") as environ:
        at_start = environ.read()
    assert "API_KEY" not in at_start and ray_head.token not in at_start


def test_the_heap_follows_the_memory_that_was_asked_for(served):
    assert about(served)["argv"] == ["--max-old-space-size=150"]


def test_answers_and_cancels(served):
    assert served.result(served.run(served.pool, does("echo", text="hi"))).json == {"does": "echo", "text": "hi"}
    call = hang(served)
    served.cancel(call)
    assert served.result(call).kind == 3


def test_an_exit_is_told_with_its_code(served):
    here, other = about(served), hang(served)
    call = served.run(served.pool, does("exit", code=7))
    for lost in (served.result(call, 10), served.result(other, 10)):
        assert (lost.type, lost.json["kind"]) == ("LOST", "exit") and "code 7" in lost.json["detail"]
    assert "code 7" in served.next("HOST_DOWN").json["detail"]
    until(lambda: not alive(here["parent"]), "its actor is gone", 10)


def test_an_abort_counts_as_out_of_memory(served):
    assert served.result(served.run(served.pool, does("abort"))).json["kind"] == "oom"


def test_a_killed_child_ends_its_calls_at_once(served):
    here, call = about(served), hang(served)
    os.kill(here["pid"], signal.SIGKILL)
    assert served.result(call, 10).json["kind"] in ("killed", "oom")
    until(lambda: not alive(here["parent"]), "its actor is gone", 10)


def test_a_killed_actor_takes_its_child_with_it(served):
    here, call = about(served), hang(served)
    os.kill(here["parent"], signal.SIGKILL)
    lost = served.result(call, 10)
    assert (lost.type, lost.json["collateral"]) == ("LOST", False)
    until(lambda: not alive(here["pid"]), "the child is gone", 10)


@pytest.mark.parametrize("which", ["pid", "parent"])
def test_what_handlers_started_goes_with_their_host(served, which):
    started = served.result(served.run(served.pool, does("start"))).json
    here, call = about(served), hang(served)
    os.kill(here[which], signal.SIGKILL)
    # The next call must not go to this host.
    assert served.result(call, 10).type == "LOST"
    until(lambda: not alive(started), "its child is gone", 10)


def test_a_stopped_actor_does_not_stop_its_child(served):
    here = about(served)
    os.kill(here["parent"], signal.SIGSTOP)
    try:
        assert about(served)["pid"] == here["pid"]
    finally:
        os.kill(here["parent"], signal.SIGCONT)


def test_a_bundle_that_throws_fails_its_pool_with_the_reason(gateway, ray_head):
    supervisor = gateway.supervisor()
    pool = supervisor.open(node_pool(ray_head, env={"TEST_FAIL": "1"}, placement={"cpus": 0.1}))
    supervisor.run(pool, does("echo"))
    failed = supervisor.next(lambda frame: frame.type == "POOL_STATE" and frame.json["state"] == "failed").json
    assert "the bundle throws" in failed["detail"]
    supervisor.send("BYE")


def test_a_missing_package_fails_its_pool(gateway):
    from support.fake import spec

    supervisor = gateway.supervisor()
    pool = supervisor.open(spec(package="gcs://_ray_pkg_0000000000000000.zip", placement={"cpus": 0.1}))
    supervisor.run(pool, does("echo"))
    failed = supervisor.next(lambda frame: frame.type == "POOL_STATE" and frame.json["state"] == "failed").json
    assert failed["detail"]
    supervisor.send("BYE")


def test_what_no_node_has_is_unschedulable(gateway, ray_head):
    supervisor = gateway.supervisor()
    pool = supervisor.open(node_pool(ray_head, placement={"cpus": 1000, "resources": {"tpu": 1}}))
    supervisor.run(pool, does("echo"))
    state = supervisor.next(lambda frame: frame.type == "POOL_STATE" and frame.json["state"] == "unschedulable").json
    assert "CPU 1000 (the most of one node is 4)" in state["detail"] and "tpu 1" in state["detail"]
    supervisor.send("BYE")


def test_a_host_that_waits_for_resources_says_so(gateway, ray_head):
    first, second = gateway.supervisor(), gateway.supervisor()
    busy = first.open(node_pool(ray_head, placement={"cpus": 3.5}))
    call = first.run(busy, does("hang"))
    first.started(call)
    waiting = second.open(node_pool(ray_head, placement={"cpus": 3}))
    second.run(waiting, does("echo"))
    state = second.next(lambda frame: frame.type == "POOL_STATE" and frame.json["detail"]).json
    assert state["state"] == "starting" and state["detail"].startswith("CPU 3, available ")
    assert "hosts of other pools that have some: " in state["detail"]
    first.cancel(call)
    first.result(call)
    first.send("BYE")
    # The first host is idle now, and makes room.
    assert second.next("RESULT").kind == 0
    second.send("BYE")
