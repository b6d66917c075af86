"""The guild hosts' side of Postgres: one transaction a group of batches, checked against the fence."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from adapters.postgres import (
    COMMITS_WITHIN_S,
    GUILD_STORE_CONNECTIONS,
    PostgresPool,
    open_pool,
    to_datetime,
    to_ms,
)
from adapters.queries import load_queries
from adapters.retention import forget
from adapters.rollups import roll_up
from adapters.rows import hour_from_row, violation_from_row
from domain.errors import (
    BatchTaken,
    EventRefused,
    Fenced,
    HistoryTakenBack,
    PlacementTaken,
    RunnerReplaced,
)
from domain.guild import (
    ActionRecorded,
    GuildChanged,
    GuildState,
    HourAdvanced,
    HourCounts,
    ViolationRecorded,
)
from domain.placement import Placement
from domain.ports import (
    Commit,
    Committed,
    HostRow,
    Incarnation,
    NodeRef,
    PendingDeletion,
    PoisonEvent,
    PoisonRow,
    RunnerLife,
    RunnerRow,
)

_SQL = load_queries("guild_store.sql")

Columns = Sequence[Sequence[Any]]

Key = tuple[UUID, datetime]
"""Names a violation's row."""

Ending = tuple[str, datetime | None]
"""How its action ended, and when that was known."""


class PostgresGuildStore:
    """Implements :class:`domain.ports.GuildStore`."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, database_url: str, name: str = "guildhall") -> PostgresGuildStore:
        """Connect, under a name that the database shows: one connection commits while others load guilds."""
        return cls(
            await open_pool(
                database_url, max_size=GUILD_STORE_CONNECTIONS, within_s=COMMITS_WITHIN_S, name=name
            )
        )

    async def close(self) -> None:
        """Let the connections go, at once."""
        await self._pool.close()

    async def register_director(self) -> int:
        """See the port."""
        return int(await self._pool.fetchval(_SQL["register_director"]))

    async def register_host(
        self, host_id: str, actor_name: str = "", director: int | None = None
    ) -> Incarnation:
        """See the port."""
        async with self._pool.transaction() as connection:
            await _hold_director(connection, director)
            number = await connection.fetchval(
                _SQL["register_host"], host_id, actor_name, secrets.randbits(24)
            )
        return Incarnation(host_id, int(number))

    async def renew_token(self, incarnation: Incarnation, known: Collection[int], token: int) -> None:
        """See the port."""
        life = (incarnation.host_id, incarnation.number)
        if await self._pool.fetchval(_SQL["renew_token"], *life, list(known), token) is not None:
            return
        held = await self._pool.fetchval(_SQL["hold_incarnation"], incarnation.host_id)
        if held is not None and held > incarnation.number:
            raise Fenced(f"Host {incarnation.host_id} lives on as incarnation {held}.")
        raise HistoryTakenBack(f"The database does not know what host {incarnation.host_id} wrote last.")

    async def write_taken_back(self, host_id: str) -> None:
        """See the port."""
        async with self._pool.transaction() as connection:
            await connection.execute(_SQL["one_tells"])
            await connection.execute(_SQL["write_taken_back"], host_id)

    async def retire_host(self, host_id: str, director: int | None = None) -> None:
        """See the port."""
        async with self._pool.transaction() as connection:
            await _hold_director(connection, director)
            await connection.execute(_SQL["retire_host"], host_id)

    async def hosts(self) -> list[HostRow]:
        """See the port."""
        return [HostRow(**dict(row)) for row in await self._pool.fetch(_SQL["hosts"])]

    async def find_runner(self, runner_id: str) -> RunnerRow | None:
        """See the port."""
        row = await self._pool.fetchrow(_SQL["find_runner"], runner_id)
        return None if row is None else _runner_row(row)

    async def register_runner(self, life: RunnerLife, spool_id: str, after: int = 0) -> RunnerRow:
        """See the port."""
        number, node = life.incarnation, life.node
        async with self._pool.transaction() as connection:
            await connection.execute(_SQL["one_registers"], life.runner_id)
            held = await connection.fetchrow(_SQL["find_runner"], life.runner_id)
            if held is not None and (held["incarnation"] != after or after >= number):
                return _runner_row(held)
            if held is not None and held["spool_id"] != spool_id:
                await connection.execute(_SQL["lose_spool"], life.runner_id)
            row = await connection.fetchrow(
                _SQL["begin_runner"], life.runner_id, number, spool_id, node.node_id, node.address
            )
            assert row is not None  # noqa: S101 - it returns what it writes
        return _runner_row(row)

    async def note_covered(
        self, runner_id: str, incarnation: int, covered_ms: int | None, spool_id: str
    ) -> None:
        """See the port."""
        covered = None if covered_ms is None else to_datetime(covered_ms)
        held = await self._pool.fetchval(_SQL["note_covered"], runner_id, incarnation, covered, spool_id)
        if held is not None and held > incarnation:
            raise RunnerReplaced(f"Runner {runner_id} lives on as incarnation {held}.")

    async def pending_deletions(
        self, shard_ids: tuple[int, ...], shard_count: int, span_ms: tuple[int, int], limit: int
    ) -> list[PendingDeletion]:
        """See the port."""
        since, until = map(to_datetime, span_ms)
        rows = await self._pool.fetch(
            _SQL["pending_deletions"], list(shard_ids), shard_count, since, until, limit
        )
        return [
            PendingDeletion(
                row["guild_id"], row["event_id"], to_ms(row["ts"]), row["channel_id"], row["message_id"]
            )
            for row in rows
        ]

    async def write_placement(self, placement: Placement) -> None:
        """See the port."""
        dedicated = msgspec.json.encode(placement.dedicated).decode()
        try:
            async with self._pool.transaction() as connection:
                await _hold_director(connection, placement.director)
                await connection.execute(
                    _SQL["write_placement"],
                    placement.version,
                    list(placement.owners),
                    dedicated,
                    placement.director,
                )
        except asyncpg.UniqueViolationError as error:
            raise PlacementTaken(f"Placement {placement.version} is written already.") from error

    async def last_placement(self) -> Placement | None:
        """See the port."""
        row = await self._pool.fetchrow(_SQL["last_placement"])
        if row is None:
            return None
        dedicated = msgspec.json.decode(row["dedicated"], type=dict[int, str])
        return Placement(row["version"], tuple(row["owners"]), dedicated, row["director"])

    async def load_guilds(self, guild_ids: list[int], since_ms: int) -> dict[int, GuildState]:
        """See the port. Two statements, however many guilds."""
        async with self._pool.connection() as connection:
            guilds = await connection.fetch(_SQL["load_guilds"], guild_ids)
            rows = await connection.fetch(_SQL["load_hours"], guild_ids, to_datetime(since_ms))
        hours: dict[int, list[HourCounts]] = {}
        for row in rows:
            hours.setdefault(row["guild_id"], []).append(hour_from_row(row))
        states = {
            row["guild_id"]: GuildState(
                guild_id=row["guild_id"],
                name=row["name"],
                member_count=row["member_count"],
                bot_present=row["bot_present"],
                bot_online=row["bot_online"],
                hours=tuple(hours.pop(row["guild_id"], ())),
            )
            for row in guilds
        }
        for guild_id, counted in hours.items():
            states[guild_id] = GuildState(guild_id, hours=tuple(counted))
        return states

    async def taken_number(self, source: str) -> int:
        """See the port."""
        with _refused():
            return int(await self._pool.fetchval(_SQL["taken_number"], source) or 0)

    async def poison(self, *, limit: int, source: str | None = None) -> list[PoisonRow]:
        """See the port."""
        if source is None:
            rows = await self._pool.fetch(_SQL["poison"], limit)
        else:
            rows = await self._pool.fetch(_SQL["poison_of_source"], limit, source)
        return [_poison_row(row) for row in rows]

    async def find_poison(self, poison_id: int) -> PoisonRow | None:
        """See the port."""
        row = await self._pool.fetchrow(_SQL["find_poison"], poison_id)
        return None if row is None else _poison_row(row)

    async def settle_poison(self, poison_id: int) -> None:
        """See the port."""
        await self._pool.execute(_SQL["settle_poison"], poison_id)

    async def settled_number(self, incarnation: Incarnation, source: str) -> int:
        """See the port."""
        with _refused():
            async with self._pool.transaction() as connection:
                await connection.execute(_SQL["await_commits"], incarnation.host_id)
                return int(await connection.fetchval(_SQL["taken_number"], source) or 0)

    async def ensure_partitions(self, now_ms: int) -> None:
        """See the port: the month before, this one and the next two."""
        await self._pool.execute(_SQL["ensure_months"], to_datetime(now_ms))

    async def forget(self, now_ms: int, retention_days: int) -> bool:
        """See the port."""
        return await forget(self._pool, now_ms, retention_days)

    async def roll_up(self) -> bool:
        """See the port."""
        return await roll_up(self._pool)

    async def commit(self, incarnation: Incarnation, commit: Commit) -> Committed:
        """See the port."""
        with _refused():
            async with self._pool.transaction() as connection:
                return await _write_fenced(connection, incarnation, commit)

    async def probe(self, incarnation: Incarnation, commit: Commit) -> None:
        """See the port."""
        with _refused():
            async with self._pool.transaction(dry=True) as connection:
                await _write_fenced(connection, incarnation, commit)


@contextmanager
def _refused() -> Iterator[None]:
    """Turn what is wrong with the data, now and at every retry, into ``EventRefused``."""
    try:
        yield
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, OverflowError) as error:
        raise EventRefused(_why(error)) from None  # logs show causes, and this one quotes what people wrote


def _why(error: Exception) -> str:
    """Return why the database refused, without the values: rows of its messages hold people's texts.

    Postgres puts them into DETAIL, and for unfit values into the message itself; what it says of a
    constraint or of a byte that is no text names none.
    """
    if not isinstance(error, asyncpg.PostgresError):
        return f"A value fits no column: {type(error).__name__}."
    told = isinstance(
        error, asyncpg.IntegrityConstraintViolationError | asyncpg.CharacterNotInRepertoireError
    )
    what = error.args[0] if told and error.args else type(error).__name__
    return f"{what} ({error.sqlstate})"


async def _hold_director(connection: Any, director: int | None) -> None:
    """Let no other Director begin before the end of this transaction; None is no Director's business."""
    if director is None:
        return
    held = await connection.fetchval(_SQL["hold_director"]) or 0
    if held != director:
        raise Fenced(f"The Director lives on as incarnation {held}; {director} may not write any more.")


async def _write_fenced(connection: Any, incarnation: Incarnation, commit: Commit) -> Committed:
    runner_ids = [sender.runner_id for sender in commit.senders]
    incarnations = [sender.incarnation for sender in commit.senders]
    row = await connection.fetchrow(_SQL["hold_commit"], incarnation.host_id, runner_ids, incarnations)
    held = None if row is None else row["incarnation"]
    if held != incarnation.number:
        raise Fenced(
            f"Host {incarnation.host_id} lives on as incarnation {held}; "
            f"{incarnation.number} may not write any more."
        )
    if row["replaced"]:
        over = [commit.senders[place - 1] for place in row["replaced"]]
        raise RunnerReplaced(lives=frozenset((sender.runner_id, sender.incarnation) for sender in over))
    return await _write(connection, commit)


async def _write(connection: Any, commit: Commit) -> Committed:
    violations = [e.violation for e in commit.effects if isinstance(e, ViolationRecorded)]

    async def run(name: str, columns: Columns) -> list[asyncpg.Record]:
        """Run a statement whose parameters are columns; with no rows there is nothing to run."""
        if not columns or not columns[0]:
            return []
        rows: list[asyncpg.Record] = await connection.fetch(_SQL[name], *columns)
        return rows

    taken = await run("write_marks", _columns((mark.source, mark.number) for mark in commit.marks))
    if len(taken) < len(commit.marks):
        raise BatchTaken
    await run(
        "write_gaps",
        _columns(
            (source, to_datetime(gap.since_ms), to_datetime(gap.until_ms), gap.lost_events, gap.reason)
            for source, gap in commit.gaps
        ),
    )
    await run(
        "write_poison",
        _columns((p.source, p.number, p.guild_id, p.reason, p.payload) for p in commit.poison),
    )
    users = {user.user_id: user for user in commit.users}
    await run(
        "write_users",
        _columns((u.user_id, u.username, u.display_name, u.avatar_url) for u in users.values()),
    )
    await run("write_guilds", _columns(_guild_rows(commit)))
    fresh = await run(
        "write_violations",
        _columns(
            (
                v.event_id,
                to_datetime(v.ts_ms),
                v.guild_id,
                v.channel_id,
                v.channel_name,
                v.message_id,
                v.user.user_id,
                v.detection,
                v.rule,
                v.severity,
                v.action,
                v.action_status,
                v.excerpt,
                v.content_hash,
            )
            for v in violations
        ),
    )
    await run("write_hours", _columns(_hour_rows(commit)))
    actions = _actions(commit, fresh)
    settled = await run("write_actions", _columns((*key, *ending) for key, ending in actions.items()))
    for row in settled:
        del actions[row["event_id"], row["ts"]]
    # Hardly ever any: they came again, or before their violations.
    await run("write_early_actions", _columns((*key, *ending) for key, ending in actions.items()))
    return Committed(
        new_violations=frozenset(row["event_id"] for row in fresh),
        settled=tuple(violation_from_row(row) for row in settled),
        committed_at_ms=to_ms(await connection.fetchval("SELECT clock_timestamp()")),
    )


def _runner_row(row: asyncpg.Record) -> RunnerRow:
    node = NodeRef(row["node_id"], row["address"])
    return RunnerRow(row["incarnation"], row["spool_id"], node, to_ms(row["covered_until"]))


def _poison_row(row: asyncpg.Record) -> PoisonRow:
    event = PoisonEvent(row["source"], row["number"], row["guild_id"], row["reason"], row["payload"])
    return PoisonRow(row["poison_id"], event, to_ms(row["at"]))


def _guild_rows(commit: Commit) -> list[tuple[Any, ...]]:
    """Return one row a guild: its last state, with the last description if there was one."""
    rows: dict[int, tuple[Any, ...]] = {}
    described: dict[int, tuple[int, str | None]] = {}
    for effect in commit.effects:
        if not isinstance(effect, GuildChanged):
            continue
        state = effect.state
        if effect.described is not None:
            described[state.guild_id] = (effect.described.owner_id, effect.described.icon_url)
        owner_id, icon_url = described.get(state.guild_id, (None, None))
        rows[state.guild_id] = (
            state.guild_id,
            state.name,
            owner_id,
            icon_url,
            state.member_count,
            state.bot_present,
            state.bot_online,
        )
    return list(rows.values())


def _actions(commit: Commit, fresh: list[asyncpg.Record]) -> dict[Key, Ending]:
    """Return what settles: of each violation what was told first, which may have waited for it."""
    endings: dict[Key, Ending] = {
        (row["event_id"], row["early_ts"]): (row["early_status"], row["early_settled_at"])
        for row in fresh
        if row["early_ts"] is not None
    }
    for effect in commit.effects:
        if isinstance(effect, ActionRecorded):
            told = effect.settled
            settled_at = None if told.settled_ms is None else to_datetime(told.settled_ms)
            endings.setdefault((told.event_id, to_datetime(told.ts_ms)), (told.status, settled_at))
    return endings


def _hour_rows(commit: Commit) -> list[tuple[Any, ...]]:
    hours: dict[tuple[int, int], HourCounts] = {}
    for effect in commit.effects:
        if isinstance(effect, HourAdvanced):
            key = (effect.guild_id, effect.counts.hour_ms)
            hours[key] = hours[key].plus(effect.counts) if key in hours else effect.counts
    return [
        (guild_id, to_datetime(hour_ms), counts.messages, counts.joins, counts.leaves)
        for (guild_id, hour_ms), counts in hours.items()
    ]


def _columns(rows: Any) -> Columns:
    """Turn rows into columns, as ``unnest`` takes them."""
    return list(zip(*rows, strict=True))
