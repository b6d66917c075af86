"""What a server says, encoded once however many sockets it goes to."""

from __future__ import annotations

from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode


class Frame:
    """A text message: ``text`` is its UTF-8, ``wire`` the same with a WebSocket header before it."""

    __slots__ = ("_wire", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._wire: bytes | None = None

    def __len__(self) -> int:
        return len(self.text)

    @property
    def wire(self) -> bytes:
        """The bytes to write to a connection on which no extension was agreed."""
        if self._wire is None:
            self._wire = WireFrame(Opcode.TEXT, self.text).serialize(mask=False)
        return self._wire
