"""Ends that are kept until they are acknowledged."""

import errno

import pytest

from effect_ray_gateway import retained
from effect_ray_gateway.retained import OVERHEAD_BYTES, Retained

#: What an end of these tests costs.
SIZE = 1000 + OVERHEAD_BYTES


@pytest.fixture
def told():
    return []


@pytest.fixture
def make(told):
    made = []

    def make(ends_in_memory, files=1 << 10, ends_in_file=4):
        made.append(
            Retained(
                told.append,
                max_memory_bytes=ends_in_memory * SIZE,
                max_file_bytes=files * ends_in_file * SIZE,
                file_bytes=ends_in_file * SIZE,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


def bodies(count):
    return [bytes([number]) * 1000 for number in range(count)]


def test_what_memory_cannot_hold_is_on_disk_and_comes_back_the_same(make, told):
    keeping = make(3)
    for _ in range(2):
        ends = [keeping.keep(body) for body in bodies(20)]
        assert (keeping.memory_bytes, keeping.file_bytes) == (3 * SIZE, 17 * SIZE)
        assert [keeping.read(end) for end in ends] == bodies(20)
        for end in ends:
            keeping.forget(end)
        assert (keeping.memory_bytes, keeping.file_bytes, told) == (0, 0, [])


def test_when_nothing_is_left_it_says_so_and_keeps_what_is_here_all_the_same(make, told):
    keeping = make(2, files=1, ends_in_file=2)
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


def test_there_is_room_again_on_disk_while_memory_stays_full(make, told):
    keeping = make(2, files=2, ends_in_file=2)
    for body in bodies(2):
        keeping.keep(body)
    # Others come and go: files are used again, though somebody keeps the memory for himself.
    for _ in range(50):
        ends = [keeping.keep(body) for body in bodies(4)]
        assert [keeping.read(end) for end in ends] == bodies(4)
        for end in ends:
            keeping.forget(end)
    assert told == []
    ends = [keeping.keep(body) for body in bodies(5)]
    assert told == [True]
    for end in ends[:2]:
        keeping.forget(end)
    assert told == [True, False]


@pytest.mark.parametrize("failing", ["TemporaryFile", "pwrite"])
def test_a_disk_that_cannot_be_written_costs_nothing_but_room(make, told, monkeypatch, failing):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(retained.tempfile if failing == "TemporaryFile" else retained.os, failing, fail)
    keeping = make(1)
    ends = [keeping.keep(body) for body in bodies(3)]
    assert told == [True]
    assert [keeping.read(end) for end in ends] == bodies(3)
    for end in ends:
        keeping.forget(end)
    assert told == [True, False]
