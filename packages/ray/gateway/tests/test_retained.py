"""Ends that are kept until they are acknowledged."""

import errno

import pytest

from effect_ray_gateway import retained
from effect_ray_gateway.retained import OVERHEAD_BYTES, Retained


@pytest.fixture
def told():
    return []


def bodies(count, size=1000):
    return [bytes([number]) * size for number in range(count)]


def test_what_memory_cannot_hold_is_on_disk_and_comes_back_the_same(told):
    keeping = Retained(told.append, max_memory_bytes=3 * (1000 + OVERHEAD_BYTES))
    ends = [keeping.keep(body) for body in bodies(10)]
    assert keeping.memory_bytes == 3 * (1000 + OVERHEAD_BYTES)
    assert keeping.file_bytes == 7000
    assert [keeping.read(end) for end in ends] == bodies(10)
    for end in ends:
        keeping.forget(end)
    assert (keeping.memory_bytes, keeping.file_bytes, told) == (0, 0, [])
    again = [keeping.keep(body) for body in bodies(10)]
    assert [keeping.read(end) for end in again] == bodies(10)
    keeping.close()


def test_when_nothing_is_left_it_says_so_and_keeps_what_is_here_all_the_same(told):
    keeping = Retained(told.append, max_memory_bytes=2 * (1000 + OVERHEAD_BYTES), max_file_bytes=2000)
    ends = [keeping.keep(body) for body in bodies(4)]
    assert told == []
    ends += [keeping.keep(body) for body in bodies(2)]
    assert told == [True]
    assert [keeping.read(end) for end in ends] == bodies(4) + bodies(2)
    for end in ends[:2]:
        keeping.forget(end)
    assert told == [True]
    keeping.forget(ends[4])
    assert told == [True, False]
    keeping.close()


@pytest.mark.parametrize("failing", ["TemporaryFile", "pwrite"])
def test_a_disk_that_cannot_be_written_costs_nothing_but_room(told, monkeypatch, failing):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(retained.tempfile if failing == "TemporaryFile" else retained.os, failing, fail)
    keeping = Retained(told.append, max_memory_bytes=1000)
    ends = [keeping.keep(body) for body in bodies(3)]
    assert told == [True]
    assert [keeping.read(end) for end in ends] == bodies(3)
    for end in ends:
        keeping.forget(end)
    assert told == [True, False]
    keeping.close()
