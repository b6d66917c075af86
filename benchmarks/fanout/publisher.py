"""The process that publishes into a running Guildhall, by its guild hosts. Spoken to by :mod:`.subject`.

A process of its own, because a process is part of one Ray cluster at most in its life, and so that its work
can be told from everybody else's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import ray
import uvloop

from actors.handles import NAMESPACE, find_director
from actors.routing import GuildDirectory, HostCalls
from adapters.clock import now_ms
from benchmarks.fanout.event import KIND, SIZE, event_data
from benchmarks.fanout.steady import send_steadily
from domain.errors import GuildhallError, ServiceFailed
from domain.events import Accepted, Batch, UserRef, ViolationDetected, decode_reply, encode_batch
from domain.ids import DISCORD_EPOCH_MS, violation_id


class Publisher:
    """Publishes on one guild's stream."""

    def __init__(self, host: HostCalls, guild_id: int) -> None:
        self._host = host
        self._guild_id = guild_id
        self._source = f"fanout-{secrets.token_hex(4)}"
        self._batches = itertools.count(1)
        self._messages = itertools.count((now_ms() - DISCORD_EPOCH_MS) << 22)

    async def announce(self, first: int, count: int, size: int = SIZE) -> dict[str, Any]:
        """Announce events, numbered from ``first`` on, in one call."""
        events = [(KIND, event_data(number, size)) for number in range(first, first + count)]
        await self._host.announce(self._guild_id, events)
        return {}

    async def pace_announcements(self, per_s: float, seconds: float, size: int) -> dict[str, Any]:
        """Announce at a steady rate: whatever is due, together."""

        async def send(first: int, count: int) -> None:
            await self.announce(first, count, size)

        return await _pace(per_s, seconds, send)

    async def pace_violations(self, per_s: float, seconds: float) -> dict[str, Any]:
        """Report violations at a steady rate, as a shard does: whatever is due is a batch, one in flight."""

        async def send(first: int, count: int) -> None:
            events = tuple(self._violation(number) for number in range(first, first + count))
            batch = Batch(self._source, next(self._batches), events)
            reply = decode_reply(await self._host.ingest(encode_batch(batch)))
            if not isinstance(reply, Accepted):
                raise ServiceFailed(f"The host does not take a violation: {reply}")

        return await _pace(per_s, seconds, send)

    def _violation(self, number: int) -> ViolationDetected:
        message_id = next(self._messages)
        return ViolationDetected(
            guild_id=self._guild_id,
            event_id=violation_id(self._guild_id, message_id, "invites"),
            channel_id=self._guild_id + 1,
            channel_name="general",
            message_id=message_id,
            user=UserRef(8 * 10**17 + number % 100, f"person{number % 100}", f"Person {number % 100}"),
            detection="invite_link",
            rule="invites",
            severity="medium",
            action="none",
            action_status="none",
            excerpt="come over to discord.gg/somewhere",
            content_hash=message_id.to_bytes(32, "big"),
            ts_ms=now_ms(),
        )


async def _pace(per_s: float, seconds: float, send: Callable[[int, int], Awaitable[None]]) -> dict[str, Any]:
    events, took_s = await send_steadily(per_s, seconds, send)
    return {"events": events, "seconds": took_s}


async def main(guild_id: int) -> None:
    """Connect to the cluster that the environment names; do what is asked until nothing more can be."""
    ray.init(
        address=None,  # RAY_ADDRESS
        namespace=NAMESPACE,
        log_to_driver=False,
        configure_logging=False,
    )
    directory = GuildDirectory(await asyncio.to_thread(find_director))
    await directory.start()
    publisher = Publisher(directory.host_of(guild_id)[1], guild_id)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    while line := await commands.readline():
        command = json.loads(line)
        try:
            answer = await getattr(publisher, command.pop("do"))(**command)
        except GuildhallError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    ray.shutdown()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
