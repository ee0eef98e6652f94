"""What is told of an exception that a handler raised, without a host."""

import asyncio
import json
import sys

import pytest

import effect_ray
from effect_ray_gateway import python_calls, python_errors, python_host


def told(error):
    """The reason, as it travels."""
    kind, body = python_calls.raised(error, False, 1)
    assert kind == 2
    return json.loads(body)


def caught(function):
    try:
        function()
    except BaseException as error:
        return error


def caused():
    try:
        {}["rows"]
    except KeyError as error:
        raise ValueError("no rows") from error


def handling():
    try:
        int("x")
    except ValueError:
        raise RuntimeError("not read")


def without_context():
    try:
        int("x")
    except ValueError:
        raise RuntimeError("not read") from None


def noted():
    error = ValueError("no rows")
    # As `add_note` does since Python 3.11.
    error.__notes__ = ["in the file of today", "page 3"]
    raise error


def circle():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


@pytest.mark.parametrize(
    "function, type_, detail",
    [
        (caused, "ValueError", "no rows (cause: KeyError: 'rows')"),
        (handling, "RuntimeError", "not read (while handling: ValueError: invalid literal for int() with base 10: 'x')"),
        (without_context, "RuntimeError", "not read"),
        (noted, "ValueError", "no rows [in the file of today] [page 3]"),
        (circle, "ValueError", "first (cause: ValueError: second)"),
    ],
)
def test_tells_what_a_traceback_shows(function, type_, detail):
    reason = told(caught(function))
    assert (reason["type"], reason["detail"]) == (type_, detail)
    assert reason["traceback"].endswith("\n") and function.__name__ in reason["traceback"]


def test_has_the_tracebacks_of_the_causes_and_the_notes():
    assert "KeyError: 'rows'" in told(caught(caused))["traceback"]
    if sys.version_info >= (3, 11):
        assert "page 3" in told(caught(noted))["traceback"]


def test_tells_of_each_exception_of_a_group():
    class Group(Exception):
        """As `ExceptionGroup` has it since Python 3.11."""

        exceptions = (ValueError("one"), TypeError("two"))

    assert told(Group("many"))["detail"] == "many (exceptions 0: ValueError: one) (exceptions 1: TypeError: two)"


class Untouchable(Exception):
    """Everything about it raises."""

    def __str__(self):
        raise SystemExit("no words")

    @property
    def __cause__(self):
        raise RuntimeError("no cause")

    @property
    def exceptions(self):
        raise RuntimeError("no exceptions")


class Careless(Exception):
    __notes__ = 5
    exceptions = (1, "two", ValueError("three"))


def test_an_exception_whose_own_code_fails_is_told_all_the_same():
    reason = told(Untouchable())
    assert (reason["type"], reason["detail"]) == ("Untouchable", "<its message cannot be read: SystemExit>")
    assert told(Careless("x"))["detail"] == "x (exceptions 2: ValueError: three)"


def test_an_exception_without_words_tells_what_it_was_made_of():
    class Sullen(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    class Mute:
        def __repr__(self):
            raise RuntimeError("no words")

    assert told(Sullen("rows", 5))["detail"] == "<its message cannot be read: RuntimeError> ('rows', 5)"
    assert told(Sullen(Mute()))["detail"] == "<its message cannot be read: RuntimeError>"


def test_notes_need_not_be_a_list_and_those_that_can_be_read_are_told():
    class Mute:
        def __str__(self):
            raise RuntimeError("no words")

    error = ValueError("no rows")
    error.__notes__ = ("page 3", Mute())
    assert told(error)["detail"] == "no rows [page 3]"


def test_the_colours_of_a_terminal_are_not_told():
    error = ValueError("\x1b[36mray::f()\x1b[39m (pid=1) \x1b]8;;http://x\x1b\\link\x1b]8;;\x07 \x1b[1;31;40mred\x1bM")
    assert told(error)["detail"] == "ray::f() (pid=1) link red"
    assert "\x1b" not in told(error)["traceback"]


def hostile(name):
    """An exception that raises when this attribute is read."""

    def fails(self):
        raise RuntimeError("untouchable")

    return type("Hostile", (Exception,), {name: property(fails)})("told")


class Closed(Exception):
    def __getattribute__(self, name):
        raise RuntimeError("untouchable")


class Nameless(type):
    def __getattribute__(cls, name):
        raise RuntimeError("no name")


@pytest.mark.parametrize("name", ["__class__", "__traceback__", "__cause__", "__context__", "__notes__", "exceptions", "args"])
def test_no_attribute_of_an_exception_is_trusted(name):
    def raises():
        raise hostile(name)

    reason = told(caught(raises))
    assert (reason["_tag"], reason["type"], reason["detail"]) == ("PythonError", "Hostile", "told")
    assert "raises" in reason["traceback"]


def test_an_exception_that_shows_no_attribute_at_all_is_told():
    assert (told(Closed("told"))["type"], told(Closed("told"))["detail"]) == ("Closed", "told")
    assert told(Nameless("Nameless", (Exception,), {})("told"))["detail"] == "told"


class Unprepared(effect_ray.TaskFailure):
    def __init__(self):
        pass


class Unreadable(effect_ray.TaskFailure):
    @property
    def tag(self):
        raise RuntimeError("no tag")

    @tag.setter
    def tag(self, value):
        pass


@pytest.mark.parametrize(
    "error, words",
    [
        (Unprepared(), "AttributeError: 'Unprepared' object has no attribute 'tag'"),
        (Unreadable("Strict", {}), "RuntimeError: no tag"),
        (effect_ray.TaskFailure("Strict", None), "TypeError: 'NoneType' object is not a mapping"),
    ],
)
def test_a_declared_error_that_cannot_be_read_is_undecodable(error, words):
    reason = told(error)
    assert (reason["_tag"], reason["what"]) == ("Undecodable", "error")
    name = type(error).__name__
    assert reason["detail"].startswith(f"a {name} whose tag and fields cannot be read is not a declared error: {words}\n")
    assert f"\nwhat was raised: {name}" in reason["detail"]


@pytest.mark.parametrize("step", ["succeeded", "raised"])
def test_an_attempt_ends_whatever_is_raised_while_its_end_is_looked_at(monkeypatch, step):
    def fails(*_):
        raise SystemExit("not looked at")

    monkeypatch.setattr(python_calls, step, fails)
    orders = {"placement": {}, "limits": {}}
    host = python_host.PythonHost(orders, asyncio.new_event_loop())
    ends = []
    monkeypatch.setattr(host.client, "finished", lambda number, ident, kind, body: ends.append((number, kind, json.loads(body))))
    header = {"module": "time", "function": "time", "keywords": [] if step == "succeeded" else ["none"]}
    host.run(7, bytes(24), json.dumps(header).encode() + (b"\n{}" if step == "succeeded" else b'\n{"none":1}'))
    host._threads.shutdown()
    ((number, kind, reason),) = ends
    assert (number, kind, reason["_tag"]) == (7, 2, "PythonError") and "SystemExit" in reason["detail"]


def test_is_bounded_and_keeps_the_root():
    def chain():
        error = OSError("the root of it")
        for level in range(200):
            try:
                raise ValueError(f"level {level} {'x' * 5000}") from error
            except ValueError as next_:
                error = next_
        raise error

    reason = told(caught(chain))
    assert len(reason["detail"]) <= python_errors.MAX_DETAIL_CHARS and len(reason["traceback"]) <= python_errors.MAX_TRACEBACK_CHARS
    assert "level 199" in reason["traceback"] and "root cause: OSError: the root of it" in reason["detail"]
    long = ValueError("first" + "x" * 100_000 + "last")
    assert told(long)["detail"].startswith("first") and told(long)["detail"].endswith("last")
    assert "ValueError: first" in told(long)["traceback"] and told(long)["traceback"].endswith("last\n")


def raised_within(error):
    """The same exception, with frames."""
    try:
        raise error
    except BaseException as caught_:
        return caught_


if sys.version_info >= (3, 11):

    def nested(levels, *others):
        group = raised_within(LookupError("the leaf"))
        for level in range(levels):
            group = ExceptionGroup(f"level {level}", [group, *others])
        return raised_within(group)

    @pytest.mark.parametrize("levels", [1, 5, 9, 10, 11, 12, 50, 900])
    @pytest.mark.parametrize("others", [(), tuple(ValueError(str(number)) for number in range(12))], ids=["alone", "among others"])
    def test_tells_the_leaf_of_groups_however_deep_it_is(levels, others):
        reason = told(nested(levels, *others))
        assert "LookupError: the leaf" in reason["detail"] and f"level {levels - 1}" in reason["detail"]
        assert "LookupError: the leaf" in reason["traceback"] and f"level {levels - 1}" in reason["traceback"]
        assert "in raised_within" in reason["traceback"]
        assert len(reason["detail"]) <= python_errors.MAX_DETAIL_CHARS
        assert len(reason["traceback"]) <= python_errors.MAX_TRACEBACK_CHARS

    def test_tells_a_group_of_many_by_some_of_them():
        reason = told(ExceptionGroup("many", [ValueError(str(number)) for number in range(100_000)]))
        assert reason["detail"].startswith("many (100000 sub-exceptions) (exceptions 0: ValueError: 0)")
        assert "ValueError: 0" in reason["traceback"]

    def test_parts_that_groups_share_are_told_once():
        shared = nested(1)
        for level in range(60):
            shared = ExceptionGroup(f"round {level}", [shared, shared])
        reason = told(shared)
        assert "round 59" in reason["detail"] and "LookupError: the leaf" in reason["detail"]
        assert "round 59" in reason["traceback"] and "LookupError: the leaf" in reason["traceback"]

    def test_parts_that_share_by_causes_and_groups_are_told_once():
        shared = nested(1)
        for level in range(60):
            group = ExceptionGroup(f"round {level}", [shared, shared])
            group.__cause__ = group.__context__ = shared
            shared = group
        assert "LookupError: the leaf" in told(shared)["detail"]


def test_a_traceback_that_is_too_long_keeps_each_of_those_that_are_told():
    def fails():
        try:
            raise KeyError("root" + "r" * 30_000)
        except KeyError as error:
            raise ValueError("end" + "e" * 30_000) from error

    traceback_ = told(caught(fails))["traceback"]
    assert len(traceback_) <= python_errors.MAX_TRACEBACK_CHARS
    assert traceback_.index("KeyError: 'root") < traceback_.index("ValueError: end") and traceback_.count("in fails") == 2


def test_the_entry_and_the_end_of_a_deep_recursion_are_told():
    def dives(depth):
        dives(depth + 1)

    traceback_ = told(caught(lambda: dives(0)))["traceback"]
    assert "Previous line repeated" in traceback_ and "RecursionError" in traceback_ and "in caught" in traceback_
