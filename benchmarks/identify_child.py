"""A process of :mod:`benchmarks.identify` with several runners: ``python -m benchmarks.identify_child``.

The only argument is JSON, see :class:`Orders`. It prints how many shards are connected whenever that changes,
and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import logging
import sys

import msgspec
import structlog

from adapters.discord_bot import DiscordBot, ShardSettings
from adapters.redis_identify import RedisIdentifyGrants
from domain.authority import AuthorityNotice
from domain.detection import Message
from domain.events import Event, Gap
from domain.ports import Position

LOOK_EVERY_S = 0.05


class Orders(msgspec.Struct, frozen=True):
    """What the bots of this process are to connect, and where."""

    runners: tuple[ShardSettings, ...]
    redis_url: str


class _Listener:
    """Takes what a bot tells; implements :class:`domain.ports.BotHandler`."""

    def on_message(self, message: Message, at: Position | None = None) -> None:
        """Take a message."""

    def on_event(self, event: Event, at: Position | None = None) -> None:
        """Take an event."""

    def on_gap(self, gap: Gap) -> None:
        """Take a gap."""

    def on_authority(self, notice: AuthorityNotice) -> None:
        """Take a notice."""


async def _main(orders: Orders) -> None:
    grants = [RedisIdentifyGrants(orders.redis_url, each.token, each.identify) for each in orders.runners]
    bots = [
        DiscordBot(each, lambda own=own: own)  # type: ignore[misc]
        for each, own in zip(orders.runners, grants, strict=True)
    ]
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.gather(*(bot.start(_Listener()) for bot in bots))
    connected = -1
    while not told.done():
        now = sum(bot.progress().connected for bot in bots)
        if now != connected:
            connected = now
            print(connected, flush=True)  # noqa: T201 - the parent reads it
        await asyncio.sleep(LOOK_EVERY_S)
    await asyncio.gather(*(bot.stop() for bot in bots))
    await asyncio.gather(*(each.close() for each in grants))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=Orders)))
