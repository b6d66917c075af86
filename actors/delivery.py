"""Sending a batch to one host until something is known of it."""

from __future__ import annotations

import asyncio
import random
from enum import Enum

import msgspec
import structlog

from actors.routing import GuildDirectory, Routing
from actors.sender_fence import SenderFence
from domain.errors import MalformedBatch
from domain.events import Accepted, Batch, Busy, NotMine, Replaced, Reply, decode_reply

log = structlog.get_logger()


class LaneSettings(msgspec.Struct, frozen=True):
    """When a batch goes, and when it goes to the spool instead."""

    batch_events: int = 500
    batch_wait_s: float = 0.02
    count_wait_s: float = 0.25
    first_retry_s: float = 0.1
    longest_retry_s: float = 1.0
    """A host that died is replaced within seconds, and its guilds wait for this to be noticed."""
    look_within_s: float = 5.0
    """How long the Director may take to say where a host lives now."""
    waiting_events: int = 2_000
    """Events that may wait in memory; more go to the spool."""
    spool_after_s: float = 1.0
    """A host that has not taken a batch for this long is away: from now on the spool takes what comes."""
    spool_wait_s: float = 0.25
    """How long events may gather before they are spooled: what a kill in an outage may cost."""


class Outcome(Enum):
    """What became of a batch."""

    TAKEN = "taken"
    MOVED = "moved"
    """The host did not take it and will not; some of its guilds are another host's now."""
    REFUSED = "refused"
    """The host cannot take it as it is, however often it is sent."""


class Delivery:
    """Calls one host."""

    def __init__(
        self, host_id: str, directory: GuildDirectory, settings: LaneSettings, fence: SenderFence
    ) -> None:
        self.credit: int | None = None
        """How many events the host said it can take; None when that is not known, or not any more."""
        self._host_id = host_id
        self._directory = directory
        self._settings = settings
        self._fence = fence

    async def wait_for_credit(self, events: int) -> None:
        """Pause when the host has no room for so many; what it said of its room is old then."""
        if self.credit is not None and self.credit < events:
            await asyncio.sleep(_jitter(self._settings.first_retry_s))
            self.credit = None

    async def send(self, batch: Batch, payload: bytes) -> Outcome:
        """Send a batch, the same again and again, until it is taken or never will be."""
        retry_s = self._settings.first_retry_s
        while True:
            await self._fence.until_open()
            routing = self._directory.routing
            try:
                if self._host_id not in routing.hosts and self._is_moved(batch, routing):
                    return Outcome.TAKEN if await self._was_taken(routing, batch) else Outcome.MOVED
                reply = await self._call(routing, payload)
            except MalformedBatch as error:
                log.error("batch_refused", host=self._host_id, number=batch.number, error=str(error))  # noqa: TRY400
                return Outcome.REFUSED
            except Exception as error:  # noqa: BLE001 - a lane that ends takes all its events along
                log.warning("host_unreachable", host=self._host_id, error=repr(error))
                await self._look_for_a_new_life(routing)
                reply = Busy(int(retry_s * 1000))
                retry_s = min(retry_s * 2, self._settings.longest_retry_s)
            match reply:
                case Accepted(credit=credit):
                    self.credit = credit
                    return Outcome.TAKEN
                case NotMine():
                    if self._is_moved(batch, self._directory.routing):
                        return Outcome.MOVED
                    await asyncio.sleep(_jitter(self._settings.first_retry_s))
                case Busy(retry_after_ms=wait_ms):
                    await asyncio.sleep(_jitter(wait_ms / 1000))
                case Replaced():
                    log.error("sender_replaced", sender=self._fence.sender)
                    self._fence.close()

    async def _call(self, routing: Routing, payload: bytes) -> Reply:
        host = routing.hosts.get(self._host_id)
        reply = (
            Busy(int(self._settings.longest_retry_s * 1000))
            if host is None
            else decode_reply(await host.ingest(payload, self._fence.sender))
        )
        if host is None or isinstance(reply, NotMine):
            await self._directory.refresh(routing.placement.version)
        return reply

    @staticmethod
    async def _was_taken(routing: Routing, batch: Batch) -> bool:
        """Ask the others about a batch whose host was drained: its answer may have been lost."""
        other = next(iter(routing.hosts.values()))
        return await other.taken(batch.source) >= batch.number

    def _is_moved(self, batch: Batch, routing: Routing) -> bool:
        if not batch.events:  # gaps alone are of no guild: any host will do
            return bool(routing.hosts) and self._host_id not in routing.hosts
        return any(routing.placement.owner_of(event.guild_id) != self._host_id for event in batch.events)

    async def _look_for_a_new_life(self, routing: Routing) -> None:
        """Ask where the host lives now: one that died is replaced, under the same id."""
        try:
            async with asyncio.timeout(self._settings.look_within_s):
                await self._directory.refresh(routing.placement.version)
        except Exception as error:  # noqa: BLE001 - the Director may be away just as well
            log.warning("placement_not_refreshed", host=self._host_id, error=repr(error))


def _jitter(wait_s: float) -> float:
    return wait_s * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, hides nothing
