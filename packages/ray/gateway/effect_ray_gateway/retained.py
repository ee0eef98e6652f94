"""The ends of calls until they are acknowledged: in memory up to a bound, then in files. None is thrown away."""

import os
import tempfile
from typing import Callable, List, Optional

from .log import log

MAX_MEMORY_BYTES = 256 * 1024 * 1024
#: So many bytes are in files at the most, in the folder for temporary files.
MAX_FILE_BYTES = 1024 * 1024 * 1024
#: A file gets so many bytes, and goes when all of them are forgotten.
FILE_BYTES = 64 * 1024 * 1024
#: What an end costs beside its bytes.
OVERHEAD_BYTES = 512
#: There is room again below this part of the bound on memory.
ROOM_PARTS = 0.9


class Kept:
    """One end. Its bytes are in memory, or in a file at `place`."""

    __slots__ = ("size", "data", "file", "place")

    def __init__(self, data: bytes) -> None:
        self.size = len(data) + OVERHEAD_BYTES
        self.data: Optional[bytes] = data
        self.file: Optional["_File"] = None
        self.place = 0


class _File:
    """A file without a name: it goes with its last handle, whatever becomes of this process."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="effect-ray-", buffering=0)
        #: Bytes that were put into it, and ends of those that are kept still.
        self.size = 0
        self.kept = 0

    def put(self, kept: Kept) -> None:
        assert kept.data is not None
        written = os.pwrite(self._file.fileno(), kept.data, self.size)
        if written < len(kept.data):
            raise OSError("the file took a part of it only")
        kept.data, kept.file, kept.place = None, self, self.size
        self.size += kept.size
        self.kept += 1

    def get(self, kept: Kept) -> bytes:
        return os.pread(self._file.fileno(), kept.size - OVERHEAD_BYTES, kept.place)

    def close(self) -> None:
        self._file.close()


class Retained:
    """All ends that are kept. `on_full` is told when there is no room left, and when there is some again."""

    def __init__(
        self,
        on_full: Callable[[bool], None],
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        max_file_bytes: int = MAX_FILE_BYTES,
        file_bytes: int = FILE_BYTES,
    ) -> None:
        self.memory_bytes = 0
        self._on_full = on_full
        self._max_memory_bytes = max_memory_bytes
        self._max_files = max_file_bytes // file_bytes
        self._file_bytes = file_bytes
        #: The last one is the one that is written to.
        self._files: List[_File] = []
        self._full = False

    @property
    def file_bytes(self) -> int:
        """Bytes in files, those of forgotten ends included where others of their file are kept."""
        return sum(file.size for file in self._files)

    def keep(self, data: bytes) -> Kept:
        """Takes an end. When there is no room it is kept in memory all the same: it is here already."""
        kept = Kept(data)
        if self.memory_bytes >= self._max_memory_bytes:
            if self._put(kept):
                return kept
            self._show(True)
        self.memory_bytes += kept.size
        return kept

    def read(self, kept: Kept) -> bytes:
        """The bytes of an end."""
        if kept.file is not None:
            return kept.file.get(kept)
        assert kept.data is not None
        return kept.data

    def forget(self, kept: Kept) -> None:
        """The end is acknowledged, or nobody is left to want it."""
        if kept.file is not None:
            kept.file.kept -= 1
            if not kept.file.kept:
                self._drop(kept.file)
        else:
            self.memory_bytes -= kept.size
            if self.memory_bytes <= self._max_memory_bytes * ROOM_PARTS:
                self._show(False)

    def close(self) -> None:
        """Keeps nothing any more."""
        for file in self._files:
            file.close()
        self._files.clear()

    def _put(self, kept: Kept) -> bool:
        try:
            if not self._files or self._files[-1].size >= self._file_bytes:
                if len(self._files) >= self._max_files:
                    return False
                if not self._files:
                    log("warning", "many results wait for acknowledgement, more are kept on disk", bytes=self.memory_bytes)
                self._files.append(_File())
            self._files[-1].put(kept)
            return True
        except OSError as error:
            log("error", "a result could not be put on disk, it stays in memory", error=str(error))
            return False

    def _drop(self, file: _File) -> None:
        file.close()
        self._files.remove(file)
        self._show(False)

    def _show(self, full: bool) -> None:
        if full is self._full:
            return
        self._full = full
        if full:
            log("warning", "no room for results that wait for acknowledgement, hosts are not read from")
        self._on_full(full)
