"""The ends of calls until they are acknowledged: in memory up to a bound, then in a file. None is thrown away."""

import os
import tempfile
from typing import BinaryIO, Callable, Optional

from .log import log

MAX_MEMORY_BYTES = 256 * 1024 * 1024
MAX_FILE_BYTES = 4 * 1024 * 1024 * 1024
#: What an end costs beside its bytes.
OVERHEAD_BYTES = 512
#: There is room again below this part of the bound on memory.
ROOM_PARTS = 0.9


class Kept:
    """One end. Its bytes are in memory, or in the file at `place`."""

    __slots__ = ("size", "data", "place")

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.data: Optional[bytes] = data
        self.place = 0


class Retained:
    """All ends that are kept. `on_full` is told when there is no room left, and when there is some again."""

    def __init__(
        self,
        on_full: Callable[[bool], None],
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self.memory_bytes = 0
        #: How far the file is written. What is forgotten leaves a hole, until all of it is.
        self.file_bytes = 0
        self._on_full = on_full
        self._max_memory_bytes = max_memory_bytes
        self._max_file_bytes = max_file_bytes
        self._file: Optional[BinaryIO] = None
        self._in_file = 0
        self._full = False

    def keep(self, data: bytes) -> Kept:
        """Takes an end. When there is no room it is kept in memory all the same: it is here already."""
        kept = Kept(data)
        if self.memory_bytes >= self._max_memory_bytes:
            if self._write(kept):
                return kept
            self._show(True)
        self.memory_bytes += kept.size + OVERHEAD_BYTES
        return kept

    def read(self, kept: Kept) -> bytes:
        """The bytes of an end."""
        if kept.data is not None:
            return kept.data
        assert self._file is not None
        return os.pread(self._file.fileno(), kept.size, kept.place)

    def forget(self, kept: Kept) -> None:
        """The end is acknowledged, or nobody is left to want it."""
        if kept.data is not None:
            self.memory_bytes -= kept.size + OVERHEAD_BYTES
        else:
            self._in_file -= 1
            if self._in_file == 0 and self._file is not None:
                self.file_bytes = 0
                os.ftruncate(self._file.fileno(), 0)
        if self.memory_bytes <= self._max_memory_bytes * ROOM_PARTS:
            self._show(False)

    def close(self) -> None:
        """The file goes with its last handle."""
        if self._file is not None:
            self._file.close()

    def _write(self, kept: Kept) -> bool:
        assert kept.data is not None
        if self.file_bytes + kept.size > self._max_file_bytes:
            return False
        try:
            if self._file is None:
                log("warning", "many results wait for acknowledgement, more are kept on disk", bytes=self.memory_bytes)
                self._file = tempfile.TemporaryFile(prefix="effect-ray-", buffering=0)
            written = os.pwrite(self._file.fileno(), kept.data, self.file_bytes)
        except OSError as error:
            log("error", "a result could not be put on disk, it stays in memory", error=str(error))
            return False
        if written < kept.size:
            return False
        kept.data, kept.place = None, self.file_bytes
        self.file_bytes += kept.size
        self._in_file += 1
        return True

    def _show(self, full: bool) -> None:
        if full is self._full:
            return
        self._full = full
        if full:
            log("warning", "no room for results that wait for acknowledgement, hosts are not read from")
        self._on_full(full)
