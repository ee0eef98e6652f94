"""Credit: how much a sender may send before the gateway has processed it."""

from typing import Callable, Optional

from . import frames

#: Credit goes back when this part of it is owed, so that there are few CREDIT frames and the sender never has to stop.
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
        # A body may be begun while there is any credit, and is then sent completely.
        self._max_used_bytes = max_bytes + max_body_bytes
        self._used_frames = 0
        self._used_bytes = 0
        self._owed_frames = 0
        self._owed_bytes = 0
        self._repay_frames = max(1, max_frames // REPAY_PARTS)
        self._repay_bytes = max(1, max_bytes // REPAY_PARTS)

    @property
    def spent(self) -> bool:
        """Whether the sender has to wait for more credit."""
        return self._used_frames >= self.frames or self._used_bytes >= self.bytes

    def take(self, size: int) -> None:
        """Takes the credit of a received frame with this many bytes. Raises `ProtocolError` if the sender had none."""
        self._used_frames += 1
        self._used_bytes += size
        if self._used_frames > self.frames:
            raise frames.ProtocolError(f"more than {self.frames} frames without credit")
        if self._used_bytes > self._max_used_bytes:
            raise frames.ProtocolError(f"more than {self._max_used_bytes} bytes without credit")

    def repay(self, count: int, size: int) -> Optional[bytes]:
        """Repays credit for frames and bytes that are no longer kept. Returns the CREDIT frame if it is time to send one."""
        self._owed_frames += count
        self._owed_bytes += size
        if self._owed_frames < self._repay_frames and self._owed_bytes < self._repay_bytes:
            return None
        data = frames.credit_frame(self._owed_frames, self._owed_bytes)
        self._used_frames -= self._owed_frames
        self._used_bytes -= self._owed_bytes
        self._owed_frames = self._owed_bytes = 0
        return data


class Intake(Window):
    """Receives the bodies of one sender: takes credit for each frame, and joins the chunks of a body."""

    __slots__ = ("_send", "_assembler")

    def __init__(self, send: Callable[[bytes], None], max_frames: int, max_bytes: int, max_body_bytes: int) -> None:
        super().__init__(max_frames, max_bytes, max_body_bytes)
        self._send = send
        self._assembler = frames.Assembler()

    def accept(self, flags: int, call: int, data: bytes, max_bytes: int) -> Optional[bytes]:
        """Adds a frame. Returns all frames of the call's body once the last one is here; they then hold the credit of
        one frame and of all bytes.
        """
        self.take(len(data))
        if not flags & frames.MORE and not self._assembler.holds(call):
            return data
        whole = self._assembler.add(flags, call, data, max_bytes)
        if whole is None:
            # The frame's credit is repaid at once, but the bytes, which occupy memory, only with the whole body.
            self.release(1, 0)
        return whole

    def release(self, count: int, size: int) -> None:
        """Repays credit for frames and bytes that are no longer kept, and tells the sender when it is time."""
        credit = self.repay(count, size)
        if credit is not None:
            self._send(credit)
