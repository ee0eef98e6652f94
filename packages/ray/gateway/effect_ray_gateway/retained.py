"""Keeps the ends of calls until they are acknowledged: in memory up to a bound, then in files. No end is dropped."""

import os
import tempfile
from typing import Callable, List, Optional

from .log import log

#: How many bytes of ends are kept in memory before files are used.
MAX_MEMORY_BYTES = 256 * 1024 * 1024
#: How many bytes are kept in files, in the folder for temporary files.
MAX_FILE_BYTES = 1024 * 1024 * 1024
#: How many bytes one file gets. A file is removed when all its ends are forgotten.
FILE_BYTES = 64 * 1024 * 1024
#: How many bytes an end takes in addition to its frames.
OVERHEAD_BYTES = 512
#: Below this part of the bound on memory there is room again.
ROOM_PARTS = 0.9


class Kept:
    """An end. Its bytes are in memory, or in a file at the offset `place`."""

    __slots__ = ("size", "data", "file", "place")

    def __init__(self, data: bytes) -> None:
        self.size = len(data) + OVERHEAD_BYTES
        self.data: Optional[bytes] = data
        self.file: Optional["_File"] = None
        self.place = 0


class _File:
    """A file without a name, which disappears with its last handle even if this process is killed."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="effect-ray-", buffering=0)
        #: How many bytes were written to it, and how many of its ends are still kept.
        self.size = 0
        self.kept = 0

    def put(self, kept: Kept) -> None:
        assert kept.data is not None
        written = os.pwrite(self._file.fileno(), kept.data, self.size)
        if written < len(kept.data):
            raise OSError("only a part of it was written")
        kept.data, kept.file, kept.place = None, self, self.size
        self.size += kept.size
        self.kept += 1

    def get(self, kept: Kept) -> bytes:
        return os.pread(self._file.fileno(), kept.size - OVERHEAD_BYTES, kept.place)

    def close(self) -> None:
        self._file.close()


class Retained:
    """All kept ends. `on_full` is called when there is no more room, and when there is room again."""

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
        """How many bytes are in files, including those of forgotten ends if other ends in the same file are kept."""
        return sum(file.size for file in self._files)

    def keep(self, data: bytes) -> Kept:
        """Keeps an end. If there is no room, it is kept in memory anyway, because it is there already."""
        kept = Kept(data)
        if self.memory_bytes >= self._max_memory_bytes:
            if self._put(kept):
                return kept
            self._show(True)
        self.memory_bytes += kept.size
        return kept

    def read(self, kept: Kept) -> bytes:
        """Returns the bytes of an end."""
        if kept.file is not None:
            return kept.file.get(kept)
        assert kept.data is not None
        return kept.data

    def forget(self, kept: Kept) -> None:
        """Forgets an end that is acknowledged, or whose supervisor is gone."""
        if kept.file is not None:
            kept.file.kept -= 1
            if not kept.file.kept:
                self._drop(kept.file)
        else:
            self.memory_bytes -= kept.size
            if self.memory_bytes <= self._max_memory_bytes * ROOM_PARTS:
                self._show(False)

    def close(self) -> None:
        """Removes all files."""
        for file in self._files:
            file.close()
        self._files.clear()

    def _put(self, kept: Kept) -> bool:
        try:
            if not self._files or self._files[-1].size >= self._file_bytes:
                if len(self._files) >= self._max_files:
                    return False
                if not self._files:
                    log("warning", "many results wait for acknowledgement, further ones are kept on disk", bytes=self.memory_bytes)
                self._files.append(_File())
            self._files[-1].put(kept)
            return True
        except OSError as error:
            log("error", "a result could not be written to disk, it stays in memory", error=str(error))
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
            log("warning", "no room for results that wait for acknowledgement, hosts have to wait")
        self._on_full(full)
