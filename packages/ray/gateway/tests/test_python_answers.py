"""How what a handler returns becomes JSON, without a host."""

import abc
import array
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import os
import threading
import time
import types
import typing
import weakref
from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from unittest import mock

import numpy
import pytest

import effect_ray
from effect_ray_gateway import python_calls, python_errors, python_values


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
        (Row(1), "a Row is a dataclass and a dict too"),
        (Rows(1), "a Rows is a dataclass and a list too"),
        (Id("a"), "a Id is a dataclass and a str too"),
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
        ({Colour.RED: float("nan")}, 'a float that is nan cannot be encoded as JSON\n  at ["red"]'),
        ({numpy.float32("inf"): 1}, "a float that is inf cannot be a key in JSON"),
        (numpy.array([0.5, float("-inf")]), "a float that is -inf cannot be encoded as JSON\n  at [1]"),
        ([numpy.float64("nan")], "a float64 that is nan cannot be encoded as JSON\n  at [0]"),
        ({"a": [0, "\ud800"]}, 'a str with half a surrogate pair cannot be encoded as JSON\n  at ["a"][1]'),
        ([1, Point({"a": 10**5000})], 'a dict cannot be encoded as JSON: ValueError: Exceeds the limit'),
        ([1, Point({"a": 10**5000})], '\n  at [1]["x"]["a"]'),
        ((1, [Point({2, 3})]), 'a set cannot be encoded as JSON\n  at [1][0]["x"]'),
        ({"long" * 1000: {1}}, "…"),
    ],
)
def test_what_json_cannot_say_is_undecodable(value, words):
    kind, reason = answer(value)
    assert (kind, reason["_tag"], reason["what"]) == (2, "Undecodable", "result") and words in reason["detail"]


def test_what_goes_round_in_a_circle_is_undecodable():
    circle = {Colour.RED: 1}
    circle["self"] = circle
    kind, reason = answer({"a": circle})
    assert (kind, reason["_tag"], reason["what"]) == (2, "Undecodable", "result")
    assert reason["detail"].startswith('it contains itself, or is nested too deeply\n  at ["a"]["self"]["self"]')


def both(base, *arguments, **contents):
    """A dataclass with one field that is something else too, with contents."""

    @dataclasses.dataclass
    class Both(base):
        """Without this `dataclass` would look for a signature."""

        number: int = 1
        __init__ = base.__init__
        __eq__ = object.__eq__
        __hash__ = object.__hash__

    value = Both(*arguments)
    for name, content in contents.items():
        setattr(value, name, content)
    return value


@pytest.mark.parametrize(
    "value, words",
    [
        (both(set, [1, 2]), "is a dataclass and a set too"),
        (both(frozenset), "is a dataclass and a frozenset too"),
        (both(deque, [1, 2]), "is a dataclass and a deque too"),
        (both(UserDict, {"a": 1}), "has attributes that JSON would not have (data)"),
        (both(UserList, [1]), "has attributes that JSON would not have (data)"),
        (both(bytes), "is a dataclass and a bytes too"),
        (both(bytearray), "is a dataclass and a bytearray too"),
        (both(complex), "is a dataclass and a complex too"),
        (both(ValueError, "no rows"), "is a dataclass and a ValueError too"),
        (both(array.array, "d", [0.5]), "is a dataclass and a array too"),
        (both(threading.local), "is a dataclass and a _local too"),
    ],
    ids=lambda value: type(value).__mro__[1].__name__ if not isinstance(value, str) else "",
)
def test_a_dataclass_that_holds_more_than_its_fields_is_refused(value, words):
    kind, reason = answer({"a": [value]})
    assert (kind, reason["_tag"], reason["what"]) == (2, "Undecodable", "result")
    assert words in reason["detail"] and reason["detail"].endswith('\n  at ["a"][0]')


@dataclasses.dataclass
class Day(datetime.date):
    number: int

    def __new__(cls, number):
        return datetime.date.__new__(cls, 2020, 1, number)


@dataclasses.dataclass(frozen=True)
class Price(decimal.Decimal):
    number: int

    def __new__(cls, number):
        return decimal.Decimal.__new__(cls, number)


@dataclasses.dataclass(eq=False)
class Grid(numpy.ndarray):
    number: int

    def __new__(cls, number):
        return numpy.ndarray.__new__(cls, (number,))


@dataclasses.dataclass
class Base:
    x: int


class Attributed(Base):
    """What its own `__init__` adds is no field."""

    def __init__(self, x):
        super().__init__(x)
        self.more = "more"


class Slotted(Base):
    __slots__ = ("more",)

    def __init__(self, x):
        super().__init__(x)
        self.more = "more"


@dataclasses.dataclass
class Sized:
    x: int

    def __post_init__(self):
        self.size = 2 * self.x


class Unit(numpy.ndarray):
    pass


class Named(dict):
    pass


class Titled(list):
    pass


class Noted(str):
    pass


class Counted(int):
    pass


class Tupled(Pair):
    pass


def attributed(value, **attributes):
    for name, attribute in attributes.items():
        setattr(value, name, attribute)
    return value


@pytest.mark.parametrize(
    "value, words",
    [
        (Day(3), "a Day is a dataclass and a date too"),
        (Price(3), "a Price is a dataclass and a Decimal too"),
        (Grid(3), "a Grid is a dataclass and a ndarray too"),
        (Attributed(1), "a Attributed has attributes that JSON would not have (more)"),
        (Slotted(1), "a Slotted has attributes that JSON would not have (more)"),
        (Sized(1), "a Sized has attributes that JSON would not have (size)"),
        (attributed(Base(1), **{name: 1 for name in "abcdefg"}), "JSON would not have (a, b, c, d, e, …)"),
        (attributed(numpy.zeros(2).view(Unit), unit="m"), "a Unit has attributes that JSON would not have (unit)"),
        (attributed(Named(a=1), title="t"), "a Named has attributes that JSON would not have (title)"),
        (attributed(Titled([1]), title="t"), "a Titled has attributes that JSON would not have (title)"),
        (attributed(Noted("a"), note="n"), "a Noted has attributes that JSON would not have (note)"),
        (attributed(Counted(1), unit="m"), "a Counted has attributes that JSON would not have (unit)"),
        (attributed(Tupled(1, 2), unit="m"), "a Tupled has attributes that JSON would not have (unit)"),
        ({attributed(Noted("a"), note="n"): 1}, "a Noted has attributes that JSON would not have (note)"),
        (time.localtime(0), "a struct_time has fields that are not among its items"),
        (os.stat("."), "a stat_result has fields that are not among its items"),
    ],
    ids=str,
)
def test_a_value_that_json_would_have_in_part_is_refused(value, words):
    kind, reason = answer([value])
    assert (kind, reason["_tag"], reason["what"]) == (2, "Undecodable", "result") and words in reason["detail"]


@dataclasses.dataclass
class Circle(typing.Generic[typing.TypeVar("T")], abc.ABC):
    """A dataclass as others are, for all that it is derived from."""

    radius: float
    kind: typing.ClassVar[str] = "circle"

    @functools.cached_property
    def area(self):
        return 3 * self.radius**2

    def tolist(self):
        return [self.radius]


@dataclasses.dataclass
class Arc(Circle):
    angle: float = 0.5


class Bare(Arc):
    pass


class Open(dict):
    """Its items are its attributes, and nothing else is."""

    def __init__(self, **items):
        super().__init__(items)
        self.__dict__ = self


@dataclasses.dataclass(slots=True)
class Tight:
    a: int
    b: int = 2


class Loose(Tight):
    pass


@pytest.mark.parametrize(
    "value, plain",
    [
        (Circle(1), {"radius": 1}),
        (Bare(1), {"radius": 1, "angle": 0.5}),
        (Loose(1), {"a": 1, "b": 2}),
        (Open(a=1), {"a": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (numpy.zeros(2).view(Unit), [0, 0]),
        (Named(a=1), {"a": 1}),
        (Noted("a"), "a"),
        (numpy.broadcast_to(7, (2, 2)), [[7, 7], [7, 7]]),
    ],
    ids=str,
)
def test_a_value_without_anything_beside_is_encoded(value, plain):
    if isinstance(value, Circle):
        assert value.area == 3
    assert answer(value) == (0, plain)


def test_a_field_that_is_not_set_is_named():
    value = Loose(1)
    del value.b
    assert answer([value])[1]["detail"].startswith("a Loose cannot be encoded as JSON: AttributeError: ")
    assert answer([value])[1]["detail"].endswith('\n  at [0]["b"]')


def doubled(value, times=60):
    """2^60 of it, in so many lists."""
    for _ in range(times):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        doubled(1),
        doubled({}),
        {"a": doubled("x" * 1_000_000, 30)},
        [10**4000] * 1_000_000,
        numpy.broadcast_to(numpy.int8(1), (1 << 40,)),
        [{"k" * 100_000: 1}] * 100_000,
    ],
    ids=["numbers", "objects", "texts", "integers", "array", "keys"],
)
def test_shared_parts_are_counted_once_for_each_that_shares_them(value):
    kind, reason = answer(value)
    assert (kind, reason["_tag"], reason["maxBytes"]) == (2, "ResultTooLarge", 1 << 20)
    assert reason["bytes"] > python_values.MAX_COUNTED_BYTES


def test_the_size_of_a_result_that_is_too_large_is_told_exactly_as_far_as_it_is_counted():
    assert answer([0] * 1_000_000)[1] == {"_tag": "ResultTooLarge", "bytes": 2_000_001, "maxBytes": 1 << 20}
    kind, body = python_calls.succeeded(python_calls.Call(1, b"", b""), ["x" * (10 << 20)], 16 << 20)
    assert (kind, len(body)) == (0, (10 << 20) + 4)


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


def failed(error):
    """The kind of the end, its JSON, and what is told beside it."""
    kind, body = python_calls.raised(error, False, 1 << 20)
    json_, _, told = body.partition(b"\n")
    return kind, json.loads(json_), json.loads(told or b"null")


def test_the_fields_of_a_declared_error_are_converted_too():
    kind, error, _ = failed(effect_ray.TaskFailure("Bad", {"by": {Colour.RED: numpy.float64(0.5)}}))
    assert (kind, error) == (1, {"_tag": "Bad", "by": {"red": 0.5}})


def test_two_fields_of_a_declared_error_that_are_one_in_json_are_refused():
    kind, reason, _ = failed(effect_ray.TaskFailure("Bad", {"by": {1: 2, "1": 3}}))
    assert (kind, reason["what"]) == (2, "error")
    assert reason["detail"].startswith("two keys of a dictionary are '1' in JSON\n  at [\"by\"]\nwhat was raised: TaskFailure: Bad {")


def test_a_field_cannot_be_the_tag_of_a_declared_error():
    assert failed(effect_ray.TaskFailure("Bad", {"_tag": "Good"}))[:2] == (1, {"_tag": "Bad"})


class Unprepared(effect_ray.TaskFailure):
    def __init__(self, step):
        self.step = step


def diverge(**fields):
    effect_ray.fail("Diverged", **fields)


def unprepared(**fields):
    raise Unprepared(**fields)


@pytest.mark.parametrize(
    "function, fields, why, what",
    [
        (diverge, {"step": float("nan")}, 'a float that is nan cannot be encoded as JSON\n  at ["step"]', "Diverged {'step': nan}"),
        (diverge, {"step": {1}}, 'a set cannot be encoded as JSON\n  at ["step"]', "Diverged {'step': {1}}"),
        (unprepared, {"step": 7}, "a Unprepared whose tag and fields cannot be read is not a declared error", "Unprepared"),
    ],
)
def test_a_declared_error_that_is_not_json_tells_what_was_raised_where_and_why_not(function, fields, why, what):
    with pytest.raises(effect_ray.TaskFailure) as raised:
        function(**fields)
    kind, reason, _ = failed(raised.value)
    assert (kind, reason["_tag"], reason["what"]) == (2, "Undecodable", "error")
    head, _, told = reason["detail"].partition("\nwhat was raised: ")
    assert head.startswith(why) and what in told
    assert f"in {function.__name__}" in told and "test_python_answers.py" in told


def test_what_was_raised_goes_along_with_a_declared_error_for_when_it_does_not_fit():
    with pytest.raises(effect_ray.TaskFailure) as raised:
        diverge(step="one", text="\n" * 10_000)
    kind, error, told = failed(raised.value)
    assert (kind, error["step"]) == (1, "one")
    assert told.startswith("what was raised: TaskFailure: Diverged {'step': 'one'") and "in diverge" in told
    assert len(told) <= python_errors.MAX_DECLARED_CHARS + 100
