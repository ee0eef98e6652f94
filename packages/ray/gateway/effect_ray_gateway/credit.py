"""Credit: how much a sender may have unread here."""

from typing import Optional

from . import frames

#: Credit goes back when a quarter of it is owed, so that CREDIT frames stay few and the sender never stands still.
REPAY_PARTS = 4


class Window:
    """The receiver's side of one sender's credit."""

    __slots__ = (
        "frames", "bytes", "_max_used_bytes", "_used_frames", "_used_bytes",
        "_owed_frames", "_owed_bytes", "_repay_frames", "_repay_bytes",
    )

    def __init__(self, max_frames: int, max_bytes: int, max_body_bytes: int) -> None:
        self.frames = max_frames
        self.bytes = max_bytes
        # A body may be begun while any credit is left, and is sent to its end then.
        self._max_used_bytes = max_bytes + max_body_bytes
        self._used_frames = 0
        self._used_bytes = 0
        self._owed_frames = 0
        self._owed_bytes = 0
        self._repay_frames = max(1, max_frames // REPAY_PARTS)
        self._repay_bytes = max(1, max_bytes // REPAY_PARTS)

    @property
    def spent(self) -> bool:
        """Whether the sender has to wait for more."""
        return self._used_frames >= self.frames or self._used_bytes >= self.bytes

    def take(self, size: int) -> None:
        """A frame of so many bytes has come in. Raises `ProtocolError` when the sender had no credit for it."""
        self._used_frames += 1
        self._used_bytes += size
        if self._used_frames > self.frames:
            raise frames.ProtocolError(f"more than {self.frames} frames without credit")
        if self._used_bytes > self._max_used_bytes:
            raise frames.ProtocolError(f"more than {self._max_used_bytes} bytes without credit")

    def repay(self, count: int, size: int) -> Optional[bytes]:
        """So much is no longer held here; the CREDIT frame to send, when it is time for one."""
        self._owed_frames += count
        self._owed_bytes += size
        if self._owed_frames < self._repay_frames and self._owed_bytes < self._repay_bytes:
            return None
        data = frames.credit_frame(self._owed_frames, self._owed_bytes)
        self._used_frames -= self._owed_frames
        self._used_bytes -= self._owed_bytes
        self._owed_frames = self._owed_bytes = 0
        return data
