"""What is told of an exception that a handler raised, without a host."""

import json
import sys

import pytest

from effect_ray_gateway import python_calls, python_errors


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
    assert told(ValueError("first" + "x" * 100_000 + "last"))["detail"].endswith("last")
