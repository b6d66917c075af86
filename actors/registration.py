"""A shard runner's life among its lives: what it takes over from the last one, and that it is the newest."""

from __future__ import annotations

import asyncio
import secrets
from typing import Protocol

import msgspec
import structlog

from actors.outbox import Outbox
from actors.routing import RoutingSource
from actors.sender_fence import SenderFence
from domain.errors import GuildhallError, RunnerReplaced
from domain.events import Sender
from domain.ports import EarlierLife, PendingDeletion, RunnerLife, RunnerRow

log = structlog.get_logger()

CALL_TIMEOUT_S = 5.0
RETRY_S = 1.0


class RunnerRegistry(Protocol):
    """Who knows the lives of shard runners: the Director, out of the database. See ``GuildStore``."""

    async def find_runner(self, runner_id: str) -> RunnerRow | None:
        """Return the newest life of a runner."""
        ...

    async def register_runner(self, life: RunnerLife, spool_id: str, after: int = 0) -> RunnerRow:
        """Make a life of a runner its newest."""
        ...

    async def note_covered(
        self, runner_id: str, incarnation: int, covered_ms: int | None, spool_id: str
    ) -> None:
        """Note until when everything that a runner heard is in the database."""
        ...

    async def pending_deletions(
        self, shard_ids: tuple[int, ...], shard_count: int, span_ms: tuple[int, int], limit: int
    ) -> list[PendingDeletion]:
        """Return deletions that nobody has told the end of."""
        ...


class RunnerDirector(RoutingSource, RunnerRegistry, Protocol):
    """The Director, as shard runners need it."""


class Registration:
    """Registers a life, and finds out when a later one has begun.

    Two lives that hear the same would count it twice. So nothing is delivered before this life is registered,
    and nothing that an earlier one sends is taken from then on. A spool that is not the last life's has been
    lying on a node that was away: what it holds was told as lost, or was heard by another life as well.
    """

    def __init__(
        self, life: RunnerLife, registry: RunnerRegistry, outbox: Outbox, fence: SenderFence
    ) -> None:
        self._life = life
        self._runner_id = life.runner_id
        self._registry = registry
        self._outbox = outbox
        self._fence = fence
        self._spool_id = ""
        """Of the spool that is registered as this life's; made up while its own cannot be opened."""
        self._last_spool_id: str | None = None
        """Of the spool of the life before, if there was one."""
        self._superseded = False

    async def begin(self) -> EarlierLife:
        """Open the spool and register; return what there is to go on from.

        While the database is away, a life whose spool knows an earlier one goes on with that, and ``keep``
        registers it later: what it hears meanwhile waits there.

        Raises:
            RunnerReplaced: a later life is registered.
            GuildhallError: nobody can say what came before.

        """
        await self._look()
        earlier = await self._outbox.start()
        try:
            return await self._register(earlier)
        except RunnerReplaced:
            raise
        except (GuildhallError, TimeoutError) as error:
            if earlier.heard_until_ms is None:
                raise
            log.warning("runner_registers_later", runner=self._runner_id, error=str(error))
            return earlier

    async def keep(self) -> None:
        """Register if that is still to be done, then say until when everything is delivered."""
        if self._fence.replaced.is_set():
            return
        try:
            sender = self._fence.sender
            if sender is None:
                await self._register(EarlierLife())
                return
            if self._last_spool_id in {None, self._outbox.spool_id}:  # it may have been opened late
                self._spool_id = self._outbox.spool_id or self._spool_id
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._registry.note_covered(
                    self._runner_id, sender.incarnation, self._outbox.covered_ms(), self._spool_id
                )
        except RunnerReplaced as error:
            log.error("runner_replaced", runner=self._runner_id, error=str(error))  # noqa: TRY400
            self._fence.close()
        except (GuildhallError, TimeoutError) as error:
            log.info("runner_not_noted", runner=self._runner_id, error=repr(error))

    async def _look(self) -> None:
        """Raise when a later life is known: it has the spool, and whoever opens that ends it."""
        try:
            found = await self._find()
        except (GuildhallError, TimeoutError):
            return  # the spool may still know what to go on from
        self._require_newest(found)

    async def _find(self) -> RunnerRow | None:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return await self._registry.find_runner(self._runner_id)

    def _require_newest(self, found: RunnerRow | None) -> None:
        if found is not None and found.incarnation > self._life.incarnation:
            raise RunnerReplaced(f"Runner {self._runner_id} lives on as incarnation {found.incarnation}.")

    async def _register(self, earlier: EarlierLife) -> EarlierLife:
        found = await self._find()
        self._spool_id = self._spool_id or self._outbox.spool_id or f"none-{secrets.token_hex(8)}"
        if found is not None and found.incarnation < self._life.incarnation:
            self._last_spool_id = self._last_spool_id or found.spool_id
        while (now := await self._take_over(found, earlier)).incarnation != self._life.incarnation:
            found = now
        if self._superseded:
            await self._outbox.end_superseded()
        self._fence.open(Sender(self._runner_id, self._life.incarnation))
        log.info("runner_registered", runner=self._runner_id, incarnation=now.incarnation)
        if self._superseded:
            return msgspec.structs.replace(earlier, heard_until_ms=now.covered_ms, shards=())
        if found is not None and earlier.heard_until_ms is None:
            return msgspec.structs.replace(earlier, heard_until_ms=found.covered_ms)
        return earlier

    async def _take_over(self, found: RunnerRow | None, earlier: EarlierLife) -> RunnerRow:
        """Register after the life that was found; return what is registered then."""
        self._require_newest(found)
        if found is not None and found.spool_id != self._spool_id and not self._superseded:
            # Before it is registered: from then on this spool is the newest.
            await self._outbox.begin_superseded(earlier.deletions)
            self._superseded = True
        async with asyncio.timeout(CALL_TIMEOUT_S):
            after = 0 if found is None else found.incarnation
            return await self._registry.register_runner(self._life, self._spool_id, after)
