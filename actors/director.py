"""The Director: creates the hosts, places the guilds, replaces what died. It is not on the data path."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import count, islice
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog

from actors.backoff import Backoff, Lives
from actors.host import HostStats
from actors.routing import HostCalls, Routing
from actors.signs import Sign, Signs
from domain.errors import (
    Fenced,
    GuildhallError,
    HostUnreachable,
    MalformedBatch,
    NoSuchHost,
    StoreUnavailable,
)
from domain.events import Accepted, Batch, decode_event, decode_reply, encode_batch
from domain.ids import HOUR_MS, SLOTS
from domain.placement import NOBODY, Placement, between, may_be_host, placing
from domain.ports import GuildStore, HostRow, PendingDeletion, RunnerLife, RunnerRow
from tasks import SupervisedTasks

log = structlog.get_logger()

T = TypeVar("T")

AT_ONCE = 64
"""Hosts that are looked for, begun or told at once: so many frozen ones cost the time of one."""
STUCK_AFTER_S = 120.0
"""A tick may wait for hosts that start anew; one that takes longer than this hangs."""


class DirectorSettings(msgspec.Struct, frozen=True):
    """How many hosts there are to be at least, and how soon one counts as dead."""

    hosts: int = 2
    tick_s: float = 1.0
    ping_within_s: float = 2.0
    strikes: int = 2
    """Pings in a row that a host may leave unanswered."""
    start_within_s: float = 30.0
    assign_within_s: float = 10.0
    backoff: Backoff = Backoff()
    """Between lives of a host: one that dies whenever it begins takes no process a second."""
    retention_days: int = 365
    """For how long violations are kept."""


class HostAccess(NamedTuple):
    """How actors of hosts are made, and found again by their names."""

    create: Callable[[str, str], HostCalls]
    """(host id, actor name) to a host that has not started."""
    find: Callable[[str], Awaitable[HostCalls | None]]


class Director:
    """Owns the placement. Killed, it loses nothing: hosts and shards go on with what they know.

    Restarted by Ray, it has only its settings, and recovers from the store when it is first asked.
    """

    def __init__(
        self,
        settings: DirectorSettings,
        access: HostAccess,
        open_store: Callable[[], Awaitable[GuildStore]],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._access = access
        self._open_store = open_store
        self._now_ms = now_ms
        self._store: GuildStore
        self._store_is_open = False
        self._hosts: dict[str, HostCalls] = {}
        self._incarnations: dict[str, int] = {}
        self._strikes: Counter[str] = Counter()
        self._lives = Lives(settings.backoff, lambda: asyncio.get_running_loop().time())
        self._lost: set[str] = set()
        """Hosts that are dead, and could not be begun anew yet."""
        self._signs = Signs()
        self._placement: Placement | None = None
        self._incarnation = 0
        """Of this life of the Director, once it is registered."""
        self._superseded = False
        self._told = 0
        """The highest version that any host may have heard of."""
        self._settled = True
        """Whether every host has heard of the placement."""
        self._partitions_made_ms = 0
        self._changing = asyncio.Lock()
        self._searching = asyncio.Lock()
        self._tasks = SupervisedTasks("director")
        self._ticking: asyncio.Task[None] | None = None
        self._forgetting: asyncio.Task[None] | None = None
        self._recovering: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find or create the hosts, place the guilds, and begin to watch over them."""
        await self._recovered()

    async def stop(self, reason: str) -> None:
        """Stop the hosts, then rest."""
        await self._tasks.stop()
        await asyncio.gather(*(host.stop(reason) for host in self._hosts.values()), return_exceptions=True)

    async def ping(self) -> str | None:
        """Return None when all is well, or at once why not. A life that Ray began recovers from here on."""
        self._require_valid()
        if self._placement is None:
            if self._recovering is None or self._recovering.done():
                self._recovering = self._tasks.spawn("recover", self._recover_quietly())
            return "It has not found its hosts yet."
        if ailing := self._tasks.ailing():
            return f"It cannot go on with: {', '.join(ailing)}."
        return None

    async def routing(self) -> Routing:
        """Return the newest placement and its hosts."""
        return Routing(await self._recovered(), dict(self._hosts))

    async def signs(self, streams: dict[str, str]) -> dict[str, Sign]:
        """Return when hosts were last heard, and how much they had told these streams of theirs by then."""
        self._require_valid()
        return self._signs.of(streams, asyncio.get_running_loop().time())

    async def find_runner(self, runner_id: str) -> RunnerRow | None:
        """See :class:`actors.registration.RunnerRegistry`."""
        await self._recovered()
        return await self._store.find_runner(runner_id)

    async def register_runner(self, life: RunnerLife, spool_id: str, after: int = 0) -> RunnerRow:
        """See :class:`actors.registration.RunnerRegistry`."""
        await self._recovered()
        return await self._store.register_runner(life, spool_id, after)

    async def note_covered(
        self, runner_id: str, incarnation: int, covered_ms: int | None, spool_id: str
    ) -> None:
        """See :class:`actors.registration.RunnerRegistry`."""
        await self._recovered()
        await self._store.note_covered(runner_id, incarnation, covered_ms, spool_id)

    async def pending_deletions(
        self, shard_ids: tuple[int, ...], shard_count: int, span_ms: tuple[int, int], limit: int
    ) -> list[PendingDeletion]:
        """See :class:`actors.registration.RunnerRegistry`. One search at a time: each reads months."""
        await self._recovered()
        async with self._searching:
            return await self._store.pending_deletions(shard_ids, shard_count, span_ms, limit)

    async def silent_hosts(self) -> list[str]:
        """Return at once which hosts left the last ping unanswered, or could not be begun anew."""
        self._require_valid()
        return sorted({*self._strikes, *self._lost})

    async def list_hosts(self) -> list[HostStats | str]:
        """Return what each host holds, or the id of one that does not answer."""
        await self._recovered()

        async def ask(host_id: str, host: HostCalls) -> HostStats | str:
            try:
                async with asyncio.timeout(self._settings.ping_within_s):
                    return await host.stats()
            except (GuildhallError, TimeoutError):
                return host_id

        return list(await asyncio.gather(*(ask(*item) for item in sorted(self._hosts.items()))))

    async def add_host(self) -> str:
        """Create one more host and give it its share of the guilds; return its id."""
        await self._recovered()
        async with self._changing:
            host_id = self._next_id()
            await self._begin_life(host_id)
            await self._hand_over(self._hosts, self._placement_now().dedicated)
            return host_id

    async def drain_host(self, host_id: str) -> None:
        """Give a host's guilds to the others, then end it for good.

        Raises:
            NoSuchHost: there is no such host, or it is the last that takes guilds.

        """
        await self._recovered()
        async with self._changing:
            if host_id not in self._hosts:
                raise NoSuchHost(f"There is no host {host_id}: `guildhall hosts list` shows those there are.")
            now = self._placement_now().dedicated
            dedicated = {guild: host for guild, host in now.items() if host != host_id}
            staying = [other for other in self._hosts if other != host_id]
            if not set(staying) - set(dedicated.values()):
                raise NoSuchHost(
                    f"Host {host_id} is the last that takes guilds: add another before draining it."
                )
            await self._hand_over(staying, dedicated)
            with self._noting_successor():
                await self._store.retire_host(host_id, self._incarnation)
            host = self._hosts.pop(host_id)
            self._strikes.pop(host_id, None)
            self._lost.discard(host_id)
            self._lives.forget(host_id)
            self._signs.forget(host_id)
            self._publish(self._placement_now())
            await asyncio.gather(host.stop("drained"), return_exceptions=True)
            await host.kill()

    async def dedicate(self, guild_id: int, host_id: str | None) -> str | None:
        """Give a guild a host of its own (a new one, or ``host_id``), or with "" take it back.

        Returns the host's id, or None when the guild is among the others again.
        """
        if host_id and not may_be_host(host_id):
            raise NoSuchHost(
                f"{host_id!r} cannot be a host's id: up to 31 of a to z, 0 to 9 and dashes, no dash first."
            )
        await self._recovered()
        async with self._changing:
            dedicated = dict(self._placement_now().dedicated)
            dedicated.pop(guild_id, None)
            if host_id != "":
                chosen = host_id or self._next_id()
                if chosen not in self._hosts:
                    await self._begin_life(chosen)
                dedicated[guild_id] = chosen
            if not set(self._hosts) - set(dedicated.values()):
                raise NoSuchHost("No host would be left for the other guilds: add one first.")
            await self._hand_over(self._hosts, dedicated)
            return dedicated.get(guild_id)

    async def retry_poison(self, poison_id: int) -> bool:
        """Send an event that was set aside once more; return whether it was taken this time.

        Raises:
            NoSuchHost: there is no such event, or it is dealt with.
            HostUnreachable: it was not taken now, or nobody knows. Tried again, it counts once all the same.

        """
        placement = await self._recovered()
        row = await self._store.find_poison(poison_id)
        if row is None:
            raise NoSuchHost(f"There is no event {poison_id} set aside.")
        try:
            event = decode_event(row.event.payload)
        except MalformedBatch:
            return False
        host = self._hosts.get(placement.owner_of(event.guild_id))
        # A source of its own, and always its first batch: however often it is sent, it is taken once.
        # Refused again it is set aside under a new id, and a retry of that is another source.
        source = f"poison-{poison_id}"
        payload = encode_batch(Batch(source, 1, (event,)))
        if host is None or not isinstance(decode_reply(await host.ingest(payload)), Accepted):
            raise HostUnreachable(f"No host takes event {poison_id} now: try again in a moment.")
        refused_again = await self._store.poison(limit=1, source=source)
        await self._store.settle_poison(poison_id)
        return not refused_again

    async def tick(self) -> None:
        """Look after every host, and make the coming months ready for violations."""
        await self._recovered()
        async with self._changing:
            ailing = await asyncio.gather(*(self._ails(*item) for item in self._hosts.items()))
            await asyncio.gather(*(self._replace(host_id) for host_id in filter(None, ailing)))
            # One that hangs would be waited for, and is replaced or well again at the next tick.
            if not self._settled and not self._strikes and not self._lost:
                await self._hand_over(self._hosts, self._placement_now().dedicated)
        await self._make_partitions()

    # -- one life after the other -------------------------------------------------------------------

    async def _recovered(self) -> Placement:
        """Return the placement, after finding the hosts again if this life has not yet."""
        self._require_valid()
        if self._placement is None:
            async with self._changing:
                if self._placement is None:
                    await self._recover()
        return self._placement_now()

    async def _recover(self) -> None:
        """Find the hosts that live, replace those that do not, and tell all of them the placement."""
        if not self._store_is_open:
            self._store, self._store_is_open = await self._open_store(), True
        if self._ticking is None:  # should the rest fail, ticks try it again
            self._ticking = self._tasks.every(
                "tick", self._settings.tick_s, self._tick_quietly, stuck_after_s=STUCK_AFTER_S
            )
        if not self._incarnation:  # once a life: two Directors must not take turns
            self._incarnation = await self._store.register_director()
        await self._make_partitions()
        last = await self._store.last_placement()
        rows = {row.host_id: row for row in await self._store.hosts()}
        found = await _at_once(self._find_alive(row) for row in rows.values())
        dead = [host_id for host_id, alive in zip(rows, found, strict=True) if not alive]
        await _at_once(self._replace_now(host_id) for host_id in dead)
        await _at_once(self._begin_life(host_id) for host_id in self._ids_to_come())
        self._told = max(self._told, last.version if last else 0)
        dedicated = {g: h for g, h in last.dedicated.items() if h in self._hosts} if last else {}
        await self._hand_over(self._hosts, dedicated)

    async def _make_partitions(self) -> None:
        """Once an hour make the coming months ready for violations, and begin to forget what is too old."""
        now_ms = self._now_ms()
        if now_ms - self._partitions_made_ms >= HOUR_MS:
            await self._store.ensure_partitions(now_ms)
            self._partitions_made_ms = now_ms
            if self._forgetting is None or self._forgetting.done():
                self._forgetting = self._tasks.spawn("forget", self._forget(now_ms))

    async def _forget(self, now_ms: int) -> None:
        """Forget what is too old, a little at a time; nobody waits for it."""
        more = True
        try:
            while more:
                forgets = await self._store.forget(now_ms, self._settings.retention_days)
                more = await self._store.roll_up() or forgets
                await asyncio.sleep(self._settings.tick_s if more else 0)
        except StoreUnavailable as error:  # whatever else it is, in an hour it is tried again
            log.warning("director_forgets_later", error=str(error))

    async def _begin_life(self, host_id: str) -> None:
        """Create a host's actor and start it; from then on an earlier life of it can write nothing.

        One whose lives end too soon has to wait: ``HostUnreachable`` until it may.
        """
        self._require_due(host_id)
        actor_name = f"guildhall-host-{host_id}-{secrets.token_hex(4)}"
        host = self._access.create(host_id, actor_name)
        try:
            with self._noting_successor():
                async with asyncio.timeout(self._settings.start_within_s):
                    incarnation = await host.start(self._incarnation)
        except (GuildhallError, TimeoutError):
            self._lives.tried(host_id, began=False)
            await host.kill()
            raise
        self._lives.tried(host_id, began=True)
        self._lost.discard(host_id)
        self._hosts[host_id] = host
        self._incarnations[host_id] = incarnation.number
        self._strikes.pop(host_id, None)

    def _require_due(self, host_id: str) -> None:
        if (wait_s := self._lives.wait_s(host_id)) > 0:
            raise HostUnreachable(
                f"Host {host_id} ends whenever it begins: its next life is in {wait_s:.0f} s."
            )

    async def _replace(self, host_id: str) -> None:
        """Give a dead, hung or fenced host a new life, if it is time; it owns nothing until it is told."""
        self._lost.add(host_id)
        if self._lives.wait_s(host_id) > 0:
            return
        log.warning("host_replaced", host=host_id)
        try:
            await self._replace_now(host_id)
        except (GuildhallError, TimeoutError) as error:
            log.error("host_not_replaced", host=host_id, error=str(error))  # noqa: TRY400 - the next tick tries again

    async def _replace_now(self, host_id: str) -> None:
        old = self._hosts.get(host_id)
        self._signs.forget(host_id)
        await self._begin_life(host_id)
        self._settled = False
        if old is not None:
            await asyncio.gather(old.kill(), return_exceptions=True)

    async def _hand_over(self, host_ids: Iterable[str], dedicated: dict[int, str]) -> None:
        """Move what moves: first everybody lets go, then the new owners begin.

        Broken off, it leaves no guild with two owners, perhaps some with none: the next tick tells again.
        """
        for lost in self._lost:
            self._require_due(lost)
        self._settled = False
        self._told += 2  # never a version that somebody may know as another placement
        new = self._signed(await _place(self._told, host_ids, dedicated))
        if self._placement is None:
            # What the hosts know is not known here, so everything is let go before it is given out.
            before = self._signed(Placement(new.version - 1, (NOBODY,) * SLOTS))
        else:
            before = self._signed(between(new.version - 1, self._placement, new))
        with self._noting_successor():
            await self._tell(before)
            await self._store.write_placement(new)
            try:
                await self._tell(new)
            finally:
                self._publish(new)  # from here on nobody owns more than this gives
        self._settled = True

    def _signed(self, placement: Placement) -> Placement:
        return msgspec.structs.replace(placement, director=self._incarnation)

    @contextmanager
    def _noting_successor(self) -> Iterator[None]:
        """Note when the store or a host says that another Director has begun: this one is over then."""
        try:
            yield
        except Fenced:
            self._step_down()
            raise

    def _step_down(self) -> None:
        if not self._superseded:
            log.warning("director_superseded", incarnation=self._incarnation)
        self._superseded = True

    def _require_valid(self) -> None:
        if self._superseded:
            raise HostUnreachable("Another Director has taken over from this one.")

    async def _tell(self, placement: Placement) -> None:
        """Tell every host a placement. One that does not answer is replaced: its old life must not go on."""

        async def tell(host_id: str) -> None:
            for last_try in (False, True):
                try:
                    async with asyncio.timeout(self._settings.assign_within_s):
                        await self._hosts[host_id].assign(placement)
                        return
                except (HostUnreachable, TimeoutError):
                    if last_try:
                        raise
                    await self._replace_now(host_id)

        await _at_once(tell(host_id) for host_id in list(self._hosts))

    def _publish(self, placement: Placement) -> None:
        self._placement = placement
        log.info("placement", version=placement.version, hosts=sorted(self._hosts))

    def _placement_now(self) -> Placement:
        assert self._placement is not None  # noqa: S101 - set by recovery, which everything begins with
        return self._placement

    def _next_id(self) -> str:
        return next(self._free_ids())

    def _ids_to_come(self) -> list[str]:
        """Return ids for as many hosts as there are too few."""
        return list(islice(self._free_ids(), max(0, self._settings.hosts - len(self._hosts))))

    def _free_ids(self) -> Iterator[str]:
        return (name for n in count() if (name := f"h{n}") not in self._hosts)

    async def _ails(self, host_id: str, host: HostCalls) -> str | None:
        """Return the id of a host that has to be replaced."""
        sent_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._settings.ping_within_s):
                ping = await host.ping()
        except HostUnreachable:
            self._signs.forget(host_id)
            return host_id
        except (GuildhallError, TimeoutError):
            self._strikes[host_id] += 1
            return host_id if self._strikes[host_id] >= self._settings.strikes else None
        self._strikes.pop(host_id, None)
        self._lost.discard(host_id)
        if ping.director > self._incarnation:
            self._step_down()
        self._told = max(self._told, ping.placement_version)  # perhaps by an earlier life of ours
        if ping.ailing:
            log.error("host_ails", host=host_id, tasks=ping.ailing)
        if ping.incarnation != self._incarnations[host_id] or ping.fenced or ping.ailing:
            self._signs.forget(host_id)
            return host_id
        self._signs.note(host_id, sent_s, ping.told)
        return None

    async def _find_alive(self, row: HostRow) -> bool:
        """Find a host again; return whether there is one that answers well at once."""
        found = await self._access.find(row.actor_name) if row.actor_name else None
        if found is None:
            return False
        self._hosts[row.host_id] = found
        self._incarnations[row.host_id] = row.incarnation
        self._strikes[row.host_id] = self._settings.strikes
        return await self._ails(row.host_id, found) is None

    async def _tick_quietly(self) -> None:
        if self._superseded:
            return
        try:
            await self.tick()
        except Fenced:
            pass  # it is noted
        except StoreUnavailable as error:
            log.warning("director_waits", error=str(error))

    async def _recover_quietly(self) -> None:
        try:
            await self._recovered()
        except GuildhallError as error:  # the next tick or ping tries again
            log.warning("director_not_recovered", error=str(error))


async def _place(version: int, host_ids: Iterable[str], dedicated: dict[int, str]) -> Placement:
    steps = placing(version, host_ids, dedicated)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            placement: Placement = done.value
            return placement
        await asyncio.sleep(0)


async def _at_once(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return what all return, ``AT_ONCE`` at a time; raise what the first raised, but leave none behind."""
    room = asyncio.Semaphore(AT_ONCE)

    async def wait_for(call: Coroutine[Any, Any, T]) -> T:
        with closing(call):  # should it never begin
            async with room:
                return await call

    outcomes = await asyncio.gather(*map(wait_for, calls), return_exceptions=True)
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
