"""Credit: how much a sender may have unread here."""

from typing import Optional

from . import frames

#: Credit goes back when a quarter of it is owed, so that CREDIT frames stay few and the sender never stands still.
REPAY_PARTS = 4


class Window:
    """The receiver's side of one sender's credit."""

    __slots__ = ("frames", "bytes", "_used", "_owed_frames", "_owed_bytes", "_repay_frames", "_repay_bytes")

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self.frames = max_frames
        self.bytes = max_bytes
        self._used = 0
        self._owed_frames = 0
        self._owed_bytes = 0
        self._repay_frames = max(1, max_frames // REPAY_PARTS)
        self._repay_bytes = max(1, max_bytes // REPAY_PARTS)

    def take(self) -> None:
        """A frame has come in. Raises `ProtocolError` when the sender had no credit for it."""
        self._used += 1
        if self._used > self.frames:
            raise frames.ProtocolError(f"more than {self.frames} frames without credit")

    def repay(self, count: int, size: int) -> Optional[bytes]:
        """So much is no longer held here; the CREDIT frame to send, when it is time for one."""
        self._owed_frames += count
        self._owed_bytes += size
        if self._owed_frames < self._repay_frames and self._owed_bytes < self._repay_bytes:
            return None
        data = frames.credit_frame(self._owed_frames, self._owed_bytes)
        self._used -= self._owed_frames
        self._owed_frames = self._owed_bytes = 0
        return data
