"""Messages that were posted, for as long as memory is meant to keep them."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Message:
    """A message in a guild's channel."""

    id: int
    guild_id: int
    channel_id: int
    author_id: int
    content: str
    mention_ids: tuple[int, ...] = ()
    mention_everyone: bool = False
    embeds: list[dict[str, Any]] = field(default_factory=list)
    nonce: str | int | None = None
    reference: dict[str, Any] | None = None


class MessageStore:
    """The newest messages, of all channels together and of each; older ones are forgotten."""

    def __init__(self, *, capacity: int = 50_000, per_channel: int = 200) -> None:
        self._capacity = capacity
        self._per_channel = per_channel
        self._by_id: OrderedDict[int, Message] = OrderedDict()
        self._by_channel: dict[int, deque[int]] = {}

    def add(self, message: Message) -> None:
        """Keep a message; the oldest makes room."""
        self._by_id[message.id] = message
        if len(self._by_id) > self._capacity:
            self._by_id.popitem(last=False)
        recent = self._by_channel.get(message.channel_id)
        if recent is None:
            recent = self._by_channel[message.channel_id] = deque(maxlen=self._per_channel)
        recent.append(message.id)

    def get(self, channel_id: int, message_id: int) -> Message | None:
        """Return a message of a channel, or None."""
        message = self._by_id.get(message_id)
        return message if message is not None and message.channel_id == channel_id else None

    def remove(self, channel_id: int, message_id: int) -> Message | None:
        """Delete a message and return it, or None if it is not there."""
        if self.get(channel_id, message_id) is None:
            return None
        return self._by_id.pop(message_id)

    def in_channel(self, channel_id: int) -> list[Message]:
        """Return what is left of a channel's newest messages, newest first."""
        recent = self._by_channel.get(channel_id, ())
        return [self._by_id[message_id] for message_id in reversed(recent) if message_id in self._by_id]
