"""What a server says, encoded once however many sockets it goes to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode

from actors.fan_out import Item
from domain.protocol import events_frame

MAX_JOINED_BYTES = 64 << 10
"""What is written at once to a socket; larger writes would not be cheaper, and wait as a whole."""


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


class Events:
    """Events of one activation of a guild, in order, that are written to its sockets at once."""

    __slots__ = ("_events", "_guild_id", "_offsets", "_shared", "frame", "reached")

    def __init__(
        self, guild_id: int, epoch: int, offsets: Sequence[int], events: Sequence[bytes], *, shared: bool
    ) -> None:
        """Take the events with their offsets; ``shared`` says whether they share a message."""
        self.reached = (epoch, offsets[-1])
        """Where a socket stands that has them. The same object for all sockets: thousands of new ones at
        each frame would bring about full collections, and these stop everybody."""
        self._guild_id, self._offsets, self._events, self._shared = guild_id, offsets, events, shared
        together = [events] if shared else [[event] for event in events]
        self.frame = Frame(*(events_frame(guild_id, epoch, part) for part in together))

    @property
    def first(self) -> int:
        """The first offset."""
        return self._offsets[0]

    def after(self, offset: int) -> Events:
        """Return those that come after an offset; there must be some."""
        known = bisect_right(self._offsets, offset)
        rest = self._offsets[known:], self._events[known:]
        return Events(self._guild_id, self.reached[0], *rest, shared=self._shared)


def joined(items: Iterable[Item], *, shared: bool) -> Iterator[Events]:
    """Join what came together of one activation of a guild into few writes."""
    guild_id = epoch = size = 0
    offsets: list[int] = []
    events: list[bytes] = []
    for guild_id, epoch, last, published in items:
        for offset, event in enumerate(published, last - len(published) + 1):
            if events and size + len(event) > MAX_JOINED_BYTES:
                yield Events(guild_id, epoch, offsets, events, shared=shared)
                offsets, events, size = [], [], 0
            offsets.append(offset)
            events.append(event)
            size += len(event)
    if events:
        yield Events(guild_id, epoch, offsets, events, shared=shared)
