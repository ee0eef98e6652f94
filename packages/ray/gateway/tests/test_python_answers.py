"""How what a handler returns becomes JSON, without a host."""

import array
import dataclasses
import enum
import json
import types
import typing
import weakref
from collections import Counter
from unittest import mock

import numpy
import pytest

import effect_ray
from effect_ray_gateway import python_calls


def answer(value):
    """The kind of the end, and what travels."""
    kind, body = python_calls.succeeded(python_calls.Call(1, b"", b""), value, 1 << 20)
    return kind, json.loads(body)


class Colour(enum.Enum):
    RED = "red"
    ARRAY = numpy.int64(3)


class Number(enum.IntEnum):
    ONE = 1


class Text(str, enum.Enum):
    A = "a"


class Code(str, enum.Enum):
    """Its members are one text and have another value."""

    def __new__(cls, text, code):
        member = str.__new__(cls, text)
        member._value_ = code
        return member

    FAST = ("quick", "f")


@dataclasses.dataclass(frozen=True)
class Point:
    x: int


@dataclasses.dataclass
class Row(dict):
    number: int


@dataclasses.dataclass
class Rows(list):
    number: int


@dataclasses.dataclass(frozen=True)
class Id(str):
    number: int = 1


class Pair(typing.NamedTuple):
    a: int
    b: int


@pytest.mark.parametrize(
    "value, plain",
    [
        ({numpy.int64(1): 2, numpy.float32(0.5): numpy.bool_(True)}, {"1": 2, "0.5": True}),
        ({numpy.bool_(False): 1, numpy.str_("s"): 2}, {"false": 1, "s": 2}),
        ({Colour.RED: Colour.RED, Colour.ARRAY: Colour.ARRAY}, {"red": "red", "3": 3}),
        ({Number.ONE: Number.ONE, Text.A: Text.A}, {"1": 1, "a": "a"}),
        ([{"deep": ({Colour.RED: Point(1)},)}], [{"deep": [{"red": {"x": 1}}]}]),
        ({True: 1, None: 2, 2.5: 3}, {"true": 1, "null": 2, "2.5": 3}),
        (Point({numpy.int64(1): numpy.arange(2)}), {"x": {"1": [0, 1]}}),
        (2**70, 2**70),
        (Code.FAST, "f"),
        ([{Code.FAST: (Code.FAST,)}], [{"f": ["f"]}]),
        (Counter("aab"), {"a": 2, "b": 1}),
        (Pair(1, Point(2)), [1, {"x": 2}]),
        (numpy.array([Colour.RED, numpy.int64(2), {1: 2}], dtype=object), ["red", 2, {"1": 2}]),
        (array.array("d", [0.5]), [0.5]),
        (numpy.ma.array([1, 2]), [1, 2]),
    ],
)
def test_keys_are_converted_as_values_are(value, plain):
    assert answer(value) == (0, plain)


@pytest.mark.parametrize(
    "value, words",
    [
        ({(1, 2): 3}, "a tuple cannot be a key in JSON"),
        ({Point(1): 3}, "a Point cannot be a key in JSON"),
        ({Colour.RED: 1, "red": 2}, "two keys of a dictionary are 'red' in JSON"),
        ({numpy.int64(7): 1, "7": 2}, "two keys of a dictionary are '7' in JSON"),
        ({1: "a", "1": "b"}, "two keys of a dictionary are '1' in JSON"),
        ({True: "a", "true": "b"}, "two keys of a dictionary are 'true' in JSON"),
        ({None: "a", "null": "b"}, "two keys of a dictionary are 'null' in JSON"),
        ({1.0: "a", "1.0": "b"}, "two keys of a dictionary are '1.0' in JSON"),
        ({numpy.float64(1): "a", "1.0": "b"}, "two keys of a dictionary are '1.0' in JSON"),
        (Counter([1, "1"]), "two keys of a dictionary are '1' in JSON"),
        ({Code.FAST: 1, "f": 2}, "two keys of a dictionary are 'f' in JSON"),
        ([({"deep": Point({1: 2, "1": 3})},)], "two keys of a dictionary are '1' in JSON"),
        (Row(1), "a Row is a dataclass and something else too"),
        (Rows(1), "a Rows is a dataclass and something else too"),
        (Id("a"), "a Id is a dataclass and something else too"),
        ({Id("a"): 1}, "a Id cannot be a key in JSON"),
        (numpy.datetime64("2020-01-01", "ns"), "convert it to text"),
        ({numpy.datetime64("2020-01-01", "ns"): 1}, "convert it to text"),
        (numpy.array(["2020-01-01"], dtype="datetime64[D]"), "convert it to text"),
        ([numpy.timedelta64(5, "ns")], "convert it to text"),
        (numpy.timedelta64(5, "Y"), "convert it to text"),
        (numpy.datetime64("NaT"), "convert it to text"),
        (numpy.array([numpy.timedelta64(5, "ns")], dtype=object), "convert it to text"),
        (numpy.zeros(1, [("a", int)]), "without the names of its fields"),
        (numpy.zeros(1, [("a", int)])[0], "without the names of its fields"),
        (numpy.ma.masked, "with masked values"),
        (numpy.ma.array([1, 2], mask=[True, False]), "with masked values"),
        (memoryview(b"abc"), "a memoryview cannot be encoded as JSON"),
        (b"abc", "a bytes cannot be encoded as JSON"),
        (numpy.array([b"abc"]), "a bytes cannot be encoded as JSON"),
        (numpy.complex128(1), "a complex cannot be encoded as JSON"),
        ({"a": {1, 2}}, "a set cannot be encoded as JSON"),
        (numpy.longdouble(1), "a longdouble cannot be encoded as JSON"),
        ({numpy.longdouble(1): 1}, "a longdouble cannot be encoded as JSON"),
        ({Colour.RED: float("nan")}, "Out of range float values are not JSON compliant"),
        ({numpy.float32("inf"): 1}, "Out of range float values are not JSON compliant"),
    ],
)
def test_what_json_cannot_say_is_undecodable(value, words):
    kind, reason = answer(value)
    assert (kind, reason["_tag"], reason["what"]) == (2, "Undecodable", "result") and words in reason["detail"]


def test_what_goes_round_in_a_circle_is_undecodable():
    circle = {Colour.RED: 1}
    circle["self"] = circle
    assert answer(circle)[1] == {"_tag": "Undecodable", "what": "result", "detail": "it holds itself, or is nested too deeply"}


def test_what_is_nested_as_deeply_as_a_payload_can_be_is_encoded():
    deep = []
    for _ in range(900):
        deep = [deep]
    assert answer(deep) == (0, deep)


class Untouchable:
    @property
    def __class__(self):
        raise RuntimeError("no class")


def dead():
    """A proxy of what is gone."""

    class Value:
        pass

    return weakref.proxy(Value())


class Endless:
    def tolist(self):
        return Endless()


@pytest.mark.parametrize(
    "make", [Untouchable, dead, mock.Mock, mock.MagicMock, Endless, lambda: [Untouchable()], lambda: {"a": dead()}]
)
def test_a_value_that_fails_or_goes_on_without_end_is_undecodable(make):
    value = make()
    assert not python_calls.is_awaitable(value)
    kind, reason = answer(value)
    assert (kind, reason["_tag"], reason["what"]) == (2, "Undecodable", "result")


@types.coroutine
def old_coroutine():
    yield


def generator():
    yield


async def coroutine():
    pass


async def async_generator():
    yield


@pytest.mark.parametrize("make, awaitable", [(old_coroutine, True), (coroutine, True), (generator, False), (async_generator, False)])
def test_awaits_what_python_would(make, awaitable):
    value = make()
    assert python_calls.is_awaitable(value) == awaitable
    if make is coroutine:
        value.close()


@pytest.mark.parametrize("discard", [True, False])
@pytest.mark.parametrize(
    "make, cure", [(generator, "loop over it"), (async_generator, "loop over it with `async for`"), (coroutine, "await it")]
)
def test_a_function_that_has_not_run_has_not_succeeded(make, cure, discard):
    call, value = python_calls.Call(1, b"", b""), make()
    call.request = {"discard": discard}
    kind, body = python_calls.succeeded(call, value, 1000)
    reason = json.loads(body)
    assert (kind, reason["_tag"], reason["what"]) == (2, "Undecodable", "result") and cure in reason["detail"]
    if make is coroutine:
        value.close()


def test_what_nobody_wants_need_not_be_json():
    call = python_calls.Call(1, b"", b"")
    call.request = {"discard": True}
    assert python_calls.succeeded(call, object(), 100) == (0, b"null")


def test_the_fields_of_a_declared_error_are_converted_too():
    error = effect_ray.TaskFailure("Bad", {"by": {Colour.RED: numpy.float64(0.5)}})
    kind, body = python_calls.raised(error, False, 1 << 20)
    assert (kind, json.loads(body)) == (1, {"_tag": "Bad", "by": {"red": 0.5}})


def test_two_fields_of_a_declared_error_that_are_one_in_json_are_refused():
    kind, body = python_calls.raised(effect_ray.TaskFailure("Bad", {"by": {1: 2, "1": 3}}), False, 1 << 20)
    assert (kind, json.loads(body)["what"]) == (2, "error")


def test_a_field_cannot_be_the_tag_of_a_declared_error():
    assert python_calls.raised(effect_ray.TaskFailure("Bad", {"_tag": "Good"}), False, 100) == (1, b'{"_tag":"Bad"}')
