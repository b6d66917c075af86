"""What a server says, encoded once however many sockets it goes to."""

from __future__ import annotations

from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode


class Frame:
    """A text message in UTF-8, or some that go out together. ``len`` is their bytes."""

    __slots__ = ("_size", "_wire", "texts")

    def __init__(self, *texts: bytes) -> None:
        self.texts = texts
        self._size = sum(map(len, texts))
        self._wire: bytes | None = None

    def __len__(self) -> int:
        return self._size

    @property
    def wire(self) -> bytes:
        """The bytes to write to a connection on which no extension was agreed: one write for all messages."""
        if self._wire is None:
            self._wire = b"".join(WireFrame(Opcode.TEXT, text).serialize(mask=False) for text in self.texts)
        return self._wire
