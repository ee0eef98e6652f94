"""Python tasks on a real Ray."""

import json
import os
import pathlib
import signal
import uuid

import pytest

from effect_ray_gateway import frames, python_calls
from support.bundles import python_pool, run_body
from support.poll import until
from support.processes import alive

SHARED = {"env": {"MODEL": "large"}, "placement": {"cpus": 0.1}}


@pytest.fixture(scope="module")
def served(gateway, ray_head):
    """A supervisor with a pool of one Python host."""
    supervisor = gateway.supervisor()
    supervisor.pool = supervisor.open(python_pool(ray_head, **SHARED))
    return supervisor


def ended(served, function, payload=None, keywords=True, seconds=60.0, **rest):
    """The end of one call."""
    call = served.run(served.pool, run_body(function, {} if payload is None and keywords is True else payload, keywords, **rest))
    return served.result(call, seconds)


@pytest.mark.parametrize("function", ["add", "add_later"])
def test_a_struct_arrives_as_keyword_arguments(served, function):
    result = ended(served, function, {"a": 1, "b": 2})
    assert (result.type, result.kind, result.json) == ("RESULT", 0, 3)


def test_anything_else_arrives_as_the_one_argument(served):
    assert ended(served, "length", [1, 2, 3], keywords=False).json == 3


@pytest.mark.parametrize("function, fields", [("diverge", {"step": 4, "why": "NaN"}), ("diverge_later", {"step": 4})])
def test_a_declared_error_travels_with_its_tag_and_fields(served, function, fields):
    result = ended(served, function, {"step": 4})
    assert (result.kind, result.json) == (1, {"_tag": "Diverged", **fields})


def test_an_uncaught_exception_is_a_python_error(served):
    result = ended(served, "broken")
    reason = result.json
    assert (result.kind, reason["_tag"], reason["type"]) == (2, "PythonError", "ValueError")
    assert reason["detail"] == "no\ufffdgood ?" and 'raise ValueError("no' in reason["traceback"] and "tasks.py" in reason["traceback"]


@pytest.mark.parametrize(
    "function, payload, type_",
    [
        ("broken_later", {}, "SystemExit"),
        ("add", {"a": 1}, "TypeError"),
        ("missing", {}, "AttributeError"),
    ],
)
def test_whatever_a_handler_raises_ends_its_attempt_only(served, function, payload, type_):
    result = ended(served, function, payload)
    assert (result.kind, result.json["_tag"], result.json["type"]) == (2, "PythonError", type_)


@pytest.mark.parametrize("character", ["\U0001f600", "\x01", "\ud800", '"'])
def test_what_is_said_of_an_exception_fits_into_one_frame(character):
    # Whatever the pool's limit for results is, which bounds what takes several.
    try:
        raise ValueError(character * 100_000)
    except ValueError as error:
        kind, body = python_calls.raised(error, False, 1)
    assert kind == 2 and len(body) <= frames.MAX_FRAME_BODY_BYTES


@pytest.mark.parametrize("function", ["sullen", "sullen_later"])
def test_an_exception_without_words_ends_its_attempt_all_the_same(served, function):
    result = ended(served, function)
    assert (result.kind, result.json["type"]) == (2, "Sullen")
    assert result.json["detail"] == "<its message cannot be read: RuntimeError>"
    assert "tasks.py" in result.json["traceback"]


@pytest.mark.parametrize("function, what", [("fragile", "result"), ("fragile_error", "error")])
def test_a_value_that_fails_to_be_encoded_is_undecodable(served, function, what):
    result = ended(served, function)
    assert (result.kind, result.json["_tag"], result.json["what"]) == (2, "Undecodable", what)
    assert "cannot be encoded as JSON: MemoryError: no list" in result.json["detail"]


@pytest.mark.parametrize("function", ["shapeless", "shapeless_later"])
def test_an_error_or_a_value_that_cannot_be_looked_at_ends_its_attempt(served, function):
    result = ended(served, function)
    assert (result.kind, result.json["_tag"], result.json["what"]) == (2, "Undecodable", "error")
    result = ended(served, "untouchable")
    assert (result.kind, result.json["_tag"], result.json["what"]) == (2, "Undecodable", "result")


def test_a_module_that_is_missing_is_a_python_error(served):
    assert ended(served, "add", {"a": 1, "b": 2}, module="nowhere").json["type"] == "ModuleNotFoundError"


@pytest.mark.parametrize(
    "kind, value",
    [
        ("numpy", {"sum": 6, "all": [0, 1, 2], "mean": 0.5}),
        ("dataclass", [{"x": 1, "y": 2}]),
        ("text", "käse \u2028 \0"),
        ("none", None),
        ("chunked", "x" * 1_000_000),
    ],
)
def test_encodes_what_handlers_return(served, kind, value):
    result = ended(served, "values", {"kind": kind})
    assert (result.kind, result.json) == (0, value)


@pytest.mark.parametrize("kind", ["nan", "numpy-nan", "object", "surrogate"])
def test_what_json_cannot_say_is_undecodable(served, kind):
    result = ended(served, "values", {"kind": kind})
    assert (result.kind, result.json["_tag"], result.json["what"]) == (2, "Undecodable", "result")


def test_what_is_too_large_is_refused_with_its_size(served):
    limit = 2 << 20
    assert ended(served, "values", {"kind": "large"}).json == {"_tag": "ResultTooLarge", "bytes": 3_000_002, "maxBytes": limit}
    assert ended(served, "large_error").json["_tag"] == "ResultTooLarge"


@pytest.mark.parametrize("payload", [b"", b'{"a":1', b'{"a":1,"b":NaN}', b'{"a":1,"b":"\xff"}', b"[1,2]"])
def test_a_payload_that_is_not_what_it_should_be_is_undecodable(served, payload):
    result = ended(served, "add", payload, ["a", "b"])
    assert (result.kind, result.json["_tag"], result.json["what"]) == (2, "Undecodable", "payload")


@pytest.mark.parametrize(
    "payload",
    [
        b'{},"module":"os","function":"system","keywords":false,"payload":"true"}',
        b'{},"module":"os"}\n{"a":1,"b":2}',
        b'\n{"task":"add","module":"os","function":"getcwd","keywords":true}\n{}',
    ],
)
def test_a_payload_cannot_choose_what_runs(served, payload):
    result = ended(served, "add", payload, ["a", "b"])
    assert (result.kind, result.json["_tag"], result.json["what"]) == (2, "Undecodable", "payload")


def test_a_payload_may_look_like_a_header(served):
    payload = b' {"a":1,\n"b":2}\n '
    assert ended(served, "add", payload, ["a", "b"]).json == 3
    assert ended(served, "keys", {"module": "os", "function": "system", "task": "x"}).json == ["function", "module", "task"]


def test_only_what_the_task_declares_becomes_an_argument(served):
    assert ended(served, "keys", {"rows": 1, "shell": True}, ["rows", "more"]).json == ["rows"]
    assert ended(served, "keys", {"shell": True}, []).json == []
    assert ended(served, "keys", None, []).json == []


def test_a_header_that_cannot_be_read_ends_its_call(served):
    result = served.result(served.run(served.pool, b"[]\n{}"))
    assert (result.kind, result.json["_tag"]) == (2, "PythonError")


def test_a_large_payload_arrives_whole(served):
    assert ended(served, "length", "x" * 1_500_000, keywords=False).json == 1_500_000


@pytest.mark.parametrize("function", ["about", "about_later"])
def test_a_handler_can_ask_about_its_attempt(served, function):
    call = served.run(served.pool, run_body(function, {}, attempt=3, queue="ml"), fence=12)
    about = served.result(call).json
    assert (about["task"], about["fence"], about["attempt"], about["queue"]) == (function, 12, 3, "ml")
    assert about["execution"] == str(uuid.UUID(int=call))
    assert about["traceparent"] == "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    assert about["cwd"] == ["tasks.py"]
    assert about["thread"].startswith("handler") == (function == "about")


def test_the_environment_is_the_pools_without_the_clusters_token(served, ray_head):
    env = ended(served, "about").json["env"]
    assert env["MODEL"] == "large" and env["CUDA_VISIBLE_DEVICES"] == ""
    assert ray_head.token not in json.dumps(env)


def test_signals_are_handled_by_coroutine_functions_which_run_on_the_main_thread(served):
    assert ended(served, "handles_signals_later").json == "handled"
    reason = ended(served, "handles_signals").json
    assert (reason["type"], "main thread" in reason["detail"]) == ("ValueError", True)


def test_handlers_may_use_ray(served):
    assert ended(served, "uses_ray").json == 42


def test_says_that_a_call_has_started_unless_it_ends_at_once(served):
    call = served.run(served.pool, run_body("forever", {}))
    assert served.started(call).route > 0
    served.cancel(call)
    assert served.result(call).kind == 3


def test_calls_run_side_by_side(served):
    calls = [served.run(served.pool, run_body("forever", {})) for _ in range(5)]
    for call in calls:
        served.started(call)
    assert ended(served, "add", {"a": 1, "b": 2}).json == 3
    for call in calls:
        served.cancel(call)
        assert served.result(call).kind == 3


def test_a_plain_function_that_looks_can_be_cancelled(served):
    call = served.run(served.pool, run_body("polite", {}))
    served.started(call)
    served.cancel(call)
    assert served.result(call).kind == 3


def test_a_coroutine_that_ends_with_a_value_keeps_it(served, tmp_path):
    begun = tmp_path / "begun"
    call = served.run(served.pool, run_body("stubborn", {"begun": str(begun)}))
    # Cancelled before its first step it would never have run.
    until(begun.exists, "the coroutine runs")
    served.cancel(call)
    result = served.result(call)
    assert (result.kind, result.json) == (0, "kept on")


@pytest.mark.parametrize("function", ["cancelled_by_itself", "cancelled_inside"])
def test_what_a_cancellation_of_the_handlers_own_says_is_told(served, function):
    reason = ended(served, function).json
    assert (reason["_tag"], reason["type"], reason["detail"]) == ("PythonError", "CancelledError", "of its own")


def test_a_task_or_a_callback_that_exits_ends_no_other_attempt(served):
    pid = ended(served, "about").json["pid"]
    others = [served.run(served.pool, run_body(function, {})) for function in ("forever", "polite")]
    for other in others:
        served.started(other)
    for how, type_ in {"exit": "SystemExit", "interrupt": "KeyboardInterrupt"}.items():
        reason = ended(served, "exits_inside", {"how": how}).json
        assert (reason["type"], reason["detail"]) == (type_, "no more")
    assert ended(served, "exits_in_a_callback").json == "gone on"
    for other in others:
        served.cancel(other)
        assert served.result(other).kind == 3
    assert ended(served, "about").json["pid"] == pid


def test_calls_that_wait_for_a_slot_can_be_cancelled(served):
    calls = [served.run(served.pool, run_body("forever", {})) for _ in range(25)]
    for call in calls:
        served.cancel(call)
    assert {served.result(call).kind for call in calls} == {3}


def test_a_function_that_cannot_be_stopped_costs_its_host(served):
    pid = ended(served, "about").json["pid"]
    stuck, other = served.run(served.pool, run_body("stuck", {})), served.run(served.pool, run_body("forever", {}))
    served.started(stuck), served.started(other)
    served.cancel(stuck, 50)
    lost, collateral = served.result(stuck), served.result(other)
    assert (lost.type, lost.json["kind"], lost.json["collateral"]) == ("LOST", "terminated", False)
    assert (collateral.type, collateral.json["kind"], collateral.json["collateral"]) == ("LOST", "terminated", True)
    until(lambda: not alive(pid), "its process is gone", 10)
    assert ended(served, "about").json["pid"] != pid


@pytest.mark.parametrize("function", ["forks", "forks_later"])
@pytest.mark.parametrize("how", ["exit", "return"])
def test_a_process_that_a_handler_forked_does_not_become_a_second_host(served, function, how):
    child = ended(served, function, {"how": how}).json
    until(lambda: not alive(child), "it is gone")
    assert ended(served, "add_later", {"a": 1, "b": 2}).json == 3


def test_a_process_that_a_handler_forked_ends_where_a_task_of_it_exits(served):
    child = ended(served, "forks_inside").json
    until(lambda: not alive(child), "it is gone")
    assert ended(served, "add_later", {"a": 1, "b": 2}).json == 3


@pytest.mark.parametrize("how", ["subprocess", "spawn", "forkserver", "fork"])
def test_processes_that_a_handler_starts_can_import_what_it_imports(served, how):
    assert ended(served, "in_a_child", {"how": how, "fails": False}).json == "effect_ray"


@pytest.mark.parametrize("how", ["spawn", "forkserver", "fork"])
def test_a_declared_error_comes_back_from_a_process_that_a_handler_started(served, how):
    result = ended(served, "in_a_child", {"how": how, "fails": True})
    assert (result.kind, result.json) == (1, {"_tag": "Diverged", "step": 4, "why": "NaN"})


def test_the_module_that_they_import_is_the_hosts_own_and_goes_with_it(served):
    about = ended(served, "about").json
    folder = pathlib.Path(about["env"]["PYTHONPATH"].split(":")[0])
    assert set(os.listdir(folder)) - {"__pycache__"} == {"effect_ray.py"} and folder.stat().st_mode & 0o777 == 0o700
    os.kill(about["pid"], signal.SIGKILL)
    until(lambda: not folder.exists(), "it is gone")
    # Its folder may be gone before the gateway knows that it is: a call that it still gets is lost.
    other = until(lambda: ended(served, "about").json.get("env"), "another host answers")
    assert pathlib.Path(other["PYTHONPATH"].split(":")[0]) != folder


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_what_a_function_started_goes_with_its_host(served, tmp_path, how):
    started = tmp_path / "started"
    call = served.run(served.pool, run_body("starts", {"file": str(started)}))
    until(lambda: started.exists() and started.read_text().endswith("\n"), "it runs")
    child = int(started.read_text())
    if how == "cancel":
        served.cancel(call, 50)
    else:
        os.kill(ended(served, "about").json["pid"], signal.SIGKILL)
    assert served.result(call).type == "LOST"
    until(lambda: not alive(child), "its child is gone")


@pytest.mark.parametrize("how", ["die", "kill", "terminate"])
def test_a_host_that_dies_ends_its_calls_at_once(served, how):
    pid = ended(served, "about").json["pid"]
    other = served.run(served.pool, run_body("forever", {}))
    served.started(other)
    if how == "die":
        assert ended(served, "die", seconds=10).type == "LOST"
    else:
        os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)
    lost = served.result(other, 10)
    assert (lost.type, lost.json["collateral"]) == ("LOST", False)
    until(lambda: not alive(pid), "its process is gone", 10)
    assert ended(served, "about").json["pid"] != pid
