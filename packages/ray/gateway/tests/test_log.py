"""The gateway's log."""

import contextlib
import sys

import pytest

from support.fake import FakeGateway, spec


@pytest.fixture
def full_disk():
    """A file that takes nothing."""
    file = open("/dev/full", "w")
    yield file
    with contextlib.suppress(OSError):
        file.close()


def test_a_log_that_cannot_be_written_disturbs_nothing(full_disk, monkeypatch):
    with FakeGateway(retained={"max_memory_bytes": 1, "max_file_bytes": 1 << 20, "file_bytes": 1 << 20}) as fake:
        monkeypatch.setattr(sys, "stderr", full_disk)
        supervisor = fake.supervisor()
        pool = supervisor.open(spec())
        calls = [supervisor.run(pool, b"{}") for _ in range(4)]
        host = fake.host(slots=4)
        # What goes to disk is told, and so is the end of a host.
        for _ in range(2):
            host.answer(host.run())
        host.close()
        assert sorted(supervisor.result(call).type for call in calls) == ["LOST", "LOST", "RESULT", "RESULT"]
