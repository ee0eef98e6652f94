"""How what a handler returns becomes JSON, without a host."""

import dataclasses
import enum
import json
import types
import weakref
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


@dataclasses.dataclass(frozen=True)
class Point:
    x: int


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
    assert answer(circle)[1]["_tag"] == "Undecodable"


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


def test_what_nobody_wants_need_not_be_json():
    call = python_calls.Call(1, b"", b"")
    call.request = {"discard": True}
    assert python_calls.succeeded(call, object(), 100) == (0, b"null")


def test_the_fields_of_a_declared_error_are_converted_too():
    error = effect_ray.TaskFailure("Bad", {"by": {Colour.RED: numpy.float64(0.5)}})
    kind, body = python_calls.raised(error, False, 1 << 20)
    assert (kind, json.loads(body)) == (1, {"_tag": "Bad", "by": {"red": 0.5}})


def test_a_field_cannot_be_the_tag_of_a_declared_error():
    assert python_calls.raised(effect_ray.TaskFailure("Bad", {"_tag": "Good"}), False, 100) == (1, b'{"_tag":"Bad"}')
