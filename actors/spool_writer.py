"""Keeps a spool on disk up to what was decided about it, without making anybody wait for the disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
import structlog

from actors.spool_index import SpoolIndex
from domain.detection import SeenText
from domain.errors import MalformedBatch, StoreUnavailable
from domain.events import Batch, decode_batch, encode_batch, without_counts
from domain.ports import Spool, SpoolChanges, SpoolContents
from tasks import SupervisedTasks

log = structlog.get_logger()


class WriterSettings(msgspec.Struct, frozen=True):
    """How often the disk is bothered."""

    alive_every_s: float = 3.0
    """How often a runner notes until when it heard everything; a kill may add this to its blind time."""
    retry_s: float = 1.0
    tries: int = 3
    """So many writes in a row must fail until nobody waits for the disk any more."""
    complain_every_ms: int = 60_000


class Checkpoint(msgspec.Struct, frozen=True):
    """What is true at the moment of a write, and goes to disk with the batches."""

    alive_ms: int | None = None
    saved: bytes | None = None
    guilds: dict[int, bytes | None] = {}
    seen: tuple[SeenText, ...] = ()


class SpoolWriter:
    """Writes what the index changed: all that gathered since the last write in one transaction.

    While the disk takes nothing, the changes stay in memory, bounded by the index.
    """

    def __init__(
        self,
        spool: Spool,
        index: SpoolIndex,
        now_ms: Callable[[], int],
        settings: WriterSettings,
        tasks: SupervisedTasks,
    ) -> None:
        self.index = index
        self.checkpoint: Callable[[], Checkpoint] | None = None
        """Tells what goes to disk with the batches; None until this life listens."""
        self._guilds: dict[int, bytes | None] = {}
        self._spool = spool
        self._now_ms = now_ms
        self._settings = settings
        self._tasks = tasks
        self._changed = asyncio.Event()
        self._next_write = asyncio.Event()
        self._opened = self._failing = False
        self._opened_late: Callable[[SpoolContents], None]
        self._complained_ms: int | None = None
        self.task: asyncio.Task[None] | None = None

    async def start(self, opened_late: Callable[[SpoolContents], None]) -> SpoolContents:
        """Open the spool; return what an earlier life left there.

        While it cannot be opened, what would go there stays in memory; ``opened_late`` is then told what
        would have been returned, once it can. The batches that it holds are left to the next life: told
        now, what they say of a guild would be older than what is known of it.
        """
        self._opened_late = opened_late
        contents = SpoolContents()
        try:
            contents = await self._spool.open()
        except StoreUnavailable as error:
            self._failing = True
            self._complain(error)
            self.index.begin_unloaded()
        else:
            self._opened = True
            self.index.load(contents)
        self.task = self._tasks.keep("spool", self._write_forever)
        return contents

    async def stop(self) -> None:
        """Write what is left, and let go."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            if self._opened:
                await self._write()
        with contextlib.suppress(StoreUnavailable):
            await self._spool.close()

    def wake(self) -> None:
        """Have changes written soon."""
        self._changed.set()

    async def written(self) -> None:
        """Return when every change so far is on disk, or the disk takes none."""
        if self._failing:
            return
        self._changed.set()
        await self._next_write.wait()

    async def read(self, position: int) -> bytes | None:
        """Return a batch's bytes; None when they are lost. Waits while the disk cannot be read."""
        payload = await self._read(position)
        batch = decoded(payload) if position <= self.index.superseded_until else None
        return payload if batch is None else encode_batch(without_counts(batch))

    async def _read(self, position: int) -> bytes | None:
        while True:
            payload = self.index.unwritten(position)
            if payload is not None or self.index.get(position) is None:
                return payload
            try:
                return await self._spool.read(position)
            except StoreUnavailable as error:
                self._complain(error)
                await asyncio.sleep(self._settings.retry_s)

    async def _write_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(
                    self._settings.alive_every_s
                ):  # wait_for may swallow a cancellation
                    await self._changed.wait()
            self._changed.clear()
            done, self._next_write = self._next_write, asyncio.Event()
            tries = 1 if self._failing else self._settings.tries
            try:
                while tries and not await self._write():
                    tries -= 1
                    await asyncio.sleep(self._settings.retry_s if tries else 0)
                self._failing = tries == 0
            finally:
                done.set()
            if self._failing:
                await asyncio.sleep(self._settings.retry_s)
                self._changed.set()

    async def _write(self) -> bool:
        """Write what changed; return whether the disk took it."""
        try:
            if not self._opened:
                contents = await self._spool.open()
                self._opened = True
                self._opened_late(contents)
            changes = self.index.changes()
            now = self.checkpoint() if self.checkpoint is not None else Checkpoint()
            self._guilds |= now.guilds
            guilds = dict(self._guilds)
            if changes.put or changes.removed or guilds or now.saved is not None:
                await self._spool.write(
                    SpoolChanges(changes.put, changes.removed, now.alive_ms, now.saved, guilds, now.seen)
                )
        except StoreUnavailable as error:
            self._complain(error)
            return False
        except Exception:  # lanes wait for what this writes
            log.exception("spool_broke")
            return False
        else:
            self.index.wrote(changes)
            for guild_id, known in guilds.items():
                if self._guilds.get(guild_id) is known:
                    self._guilds.pop(guild_id, None)
            return True

    def _complain(self, error: StoreUnavailable) -> None:
        now_ms = self._now_ms()
        if self._complained_ms is None or now_ms - self._complained_ms >= self._settings.complain_every_ms:
            self._complained_ms = now_ms
            log.error("spool_unusable", error=str(error), unwritten_bytes=self.index.unwritten_bytes)


def decoded(payload: bytes | None) -> Batch | None:
    """Return the batch that was read from a spool, or None when its bytes are lost or broken."""
    with contextlib.suppress(MalformedBatch):
        return decode_batch(payload) if payload is not None else None
    return None
