"""What must be true when the storm is over, whatever it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from adapters.memory import MemoryGuildStore
from domain.events import ViolationDetected, decode_event
from domain.guild import WINDOW_HOURS, HourCounts, one_violation
from domain.ids import HOUR_MS, hour_start
from tests.simulation.runner import MEMBERS, Life, Runner
from tests.simulation.store import run
from tests.simulation.world import World, owned


def complaints(world: World) -> list[str]:
    """Return everything that is not as it should be, in words."""
    found = list(world.wrong)
    for check in (
        *(_violations, _actions, _counts, _members, _rollups, _live, _poison, _gaps, _losses, _spools),
    ):
        found.extend(f"{check.__name__.strip('_')}: {what}" for what in check(world))
    return found


def _lives(world: World) -> Iterator[tuple[Runner, Life]]:
    return ((runner, life) for runner in world.runners for life in runner.lives)


def _violations(world: World) -> Iterator[str]:
    """Each violation is stored once; only those in a killed runner's memory may be missing."""
    rows = Counter(row.violation.event_id for row in world.database.violations.values())
    given: set[Any] = set()
    for _, life in _lives(world):
        given |= life.violations.keys()
        if world.drawn.small_spool:
            continue  # see _losses
        must = life.violations.keys() if life.safe is None else life.safe_ids
        if missing := must - rows.keys():
            yield f"{len(missing)} of {len(must)} violations are missing"
    if invented := rows.keys() - given:
        yield f"{len(invented)} violations were never given"
    if any(times > 1 for times in rows.values()):
        yield "a violation has two rows"


def _actions(world: World) -> Iterator[str]:
    """Compare actions: each that was told is settled in its row, in whatever order and lives both came."""
    rows = {row.violation.event_id: row.action_status for row in world.database.violations.values()}
    told = {event_id: status for _, life in _lives(world) for event_id, status in life.settled.items()}
    for _, life in _lives(world):
        if life.safe is None and not world.drawn.small_spool:
            for event_id in life.settled.keys() & rows.keys():  # of rows that are missing see _violations
                if rows[event_id] != told[event_id]:
                    yield f"an action is {rows[event_id]}, not {told[event_id]}"
    for event_id, status in rows.items():
        if status not in {"pending", told.get(event_id)}:
            yield f"an action is {status}, which nobody told"
    if late := world.database.early_actions.keys() & world.database.violations.keys():
        yield f"{len(late)} actions wait for violations that are there"


def _counts(world: World) -> Iterator[str]:
    """Compare counts: what has no id is counted exactly once as well."""
    for runner, life in _lives(world):
        stored = runner.stored(life)
        if life.safe is None:
            if stored != life.counts:
                yield f"{runner.name} counted {_difference(life.counts, stored)}"
            continue
        for key in sorted(life.counts.keys() | stored.keys()):
            if not life.safe[key] <= stored[key] <= life.counts[key]:
                yield f"{runner.name} counted {key}: {life.safe[key]} ≤ {stored[key]} ≤ {life.counts[key]}"


def _difference(given: Counter[Any], stored: Counter[Any]) -> str:
    return ", ".join(
        f"{key}: {given[key]} given, {stored[key]} stored"
        for key in sorted(given.keys() | stored.keys())
        if given[key] != stored[key]
    )


def _members(world: World) -> Iterator[str]:
    """Compare members: what Discord last said, plus who came and minus who went since."""
    for runner in world.runners:
        if world.drawn.small_spool or any(life.safe is not None for life in runner.lives):
            continue
        last = runner.lives[-1].counts
        for guild_id in runner.guilds:
            expected = MEMBERS + len(runner.lives) + last["joins", guild_id] - last["leaves", guild_id]
            row = world.database.guilds.get(guild_id)
            if row is None or row.member_count != expected:
                yield f"guild {guild_id} has {row.member_count if row else None} members, not {expected}"


def _rollups(world: World) -> Iterator[str]:
    """Compare rollups: the hours count the rows that there are."""
    counted: dict[tuple[int, int], HourCounts] = {}
    for row in world.database.violations.values():
        one = one_violation(hour_start(row.violation.ts_ms), row.violation.severity)
        key = (row.violation.guild_id, one.hour_ms)
        counted[key] = counted[key].plus(one) if key in counted else one
    for key in counted.keys() | world.database.hours.keys():
        rows = counted.get(key, HourCounts(key[1]))
        hour = world.database.hours.get(key, HourCounts(key[1]))
        if msgspec.structs.replace(hour, messages=0, joins=0, leaves=0) != rows:
            yield f"hour {key} is {hour}, its rows are {rows}"


def _live(world: World) -> Iterator[str]:
    """Compare what is alive in a host with what a fresh load would give."""
    since_ms = hour_start(world.now_ms()) - (WINDOW_HOURS - 1) * HOUR_MS
    store = MemoryGuildStore(world.database)
    for host in world.writers():
        for guild in owned(host):
            guild_id = guild.state.guild_id
            fresh = run(store.load_guilds([guild_id], since_ms)).get(guild_id)
            if fresh is not None and fresh != guild.state:
                yield f"guild {guild_id} lives as {guild.state}, the store has {fresh}"


def _poison(world: World) -> Iterator[str]:
    """Find what the store refused: set aside once by each life that told it, with its reason."""
    most = 1 + sum(runner.moves for runner in world.runners)
    aside: Counter[Any] = Counter()
    for row in world.database.poison:
        event = decode_event(row.event.payload)
        if not isinstance(event, ViolationDetected) or "NUL" not in row.event.reason:
            yield f"{event} was set aside: {row.event.reason}"
            continue
        aside[event.event_id] += 1
    given: set[Any] = set()
    for _, life in _lives(world):
        given |= life.poison
        if life.safe is None and (missing := life.poison - aside.keys()):
            yield f"{len(missing)} poison events were not set aside"
    if aside.keys() - given or any(times > most for times in aside.values()):
        yield f"set aside: {aside}, given {given}"


def _gaps(world: World) -> Iterator[str]:
    """Count how often the time between two lives is told: once."""
    told = Counter(gap.reason for _, gap in world.database.gaps if gap.reason.startswith("blind "))
    for _, life in _lives(world):
        times = told[life.blind.reason] if life.blind else 0
        if life.blind and times != 1 and (life.safe is None or times > 1):
            yield f"{life.blind} was told {times} times"


def _losses(world: World) -> Iterator[str]:
    """Whatever had to be given up is told as a gap, to the last event."""
    if any(life.safe is not None for _, life in _lives(world)):
        return
    told = sum(gap.lost_events for _, gap in world.database.gaps)
    stored = {row.violation.event_id for row in world.database.violations.values()}
    given = {event_id for _, life in _lives(world) for event_id in life.violations}
    if told != len(given - stored):
        yield f"{len(given - stored)} events are missing, gaps tell of {told}"


def _spools(world: World) -> Iterator[str]:
    """Whatever began without the disk of the life before has told so, and nobody was replaced by nobody."""
    for runner in world.runners:
        yield from runner.wrong
        told = sum(name == runner.name and gap.reason == "spool_lost" for name, gap in world.database.gaps)
        if told < runner.moves:
            yield f"{runner.name} lost {runner.moves} disks and told of {told}"
