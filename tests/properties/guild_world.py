"""A small world around the domain: a database, hosts with their lives, shards, a director, browsers.

All of it plain calls. The shell is that of record 0004: decide, make durable, only then adopt and show.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from actors.guild import GuildActor, Watcher
from adapters.memory.samples import NOON_MS
from domain.errors import Fenced, StoreUnavailable, TooManySockets
from domain.events import (
    SEVERITIES,
    Accepted,
    Batch,
    BotPresenceChanged,
    Busy,
    Event,
    NotMine,
    Reply,
    ViolationDetected,
    decode_batch,
    encode_batch,
)
from domain.guild import Decision, GuildState
from domain.placement import NOBODY, Placement, between, place
from domain.ports import BatchMark, Commit, Committed, GuildRow, Incarnation
from domain.protocol import Subscribe, parse_client_message, subscribed
from domain.views import metrics_update, violation_view
from tests.properties.guild_ledger import HOUR_MS, Columns, Database, Fate, Ledger, hour_of

GUILDS = (1, 2, 10)
"""Which of the hosts has which of them depends on which hosts there are."""
HOSTS = ("h0", "h1", "h2")
SHARDS = 2
BATCH_EVENTS = 8
REMEMBERED_EVENTS, MAX_SOCKETS_PER_USER = 5, 2
"""In place of those of :mod:`actors.guild`: so few that a short example gets past them."""
RESUME_MS = 600_000


class Life:
    """One life of a host: what it owns as far as it knows, and the guilds that are alive in it."""

    def __init__(self, incarnation: Incarnation) -> None:
        self.incarnation = incarnation
        self.placement: Placement | None = None
        self.guilds: dict[int, GuildActor] = {}
        self.activations = 0
        self.doubt: tuple[BatchMark, set[int]] | None = None
        self.over = False
        """Dead, or it has heard that it is fenced."""

    @property
    def version(self) -> int:
        return self.placement.version if self.placement else 0

    def owns(self, guild_id: int, by: Placement | None = None) -> bool:
        placement = by or self.placement
        return placement is not None and placement.owner_of(guild_id) == self.incarnation.host_id


class Lane:
    """What one shard has for one host: a batch on its way, and what waits behind it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.number = 0
        self.flight: bytes | None = None
        self.waiting: list[Event] = []

    def batch(self) -> bytes | None:
        """Return the batch to send: the same one until it is taken."""
        if self.flight is None and self.waiting:
            self.number += 1
            events, self.waiting = tuple(self.waiting[:BATCH_EVENTS]), self.waiting[BATCH_EVENTS:]
            self.flight = encode_batch(Batch(self.source, self.number, events))
        return self.flight

    def take_all(self) -> list[Event]:
        events = [*(decode_batch(self.flight).events if self.flight else ()), *self.waiting]
        self.flight, self.waiting = None, []
        return events


class Handover(NamedTuple):
    """Two placements that are told one after the other, each to every host."""

    untold: list[tuple[Placement, str]]
    new: Placement


class Connection(NamedTuple):
    """A tab's socket, and the frames that are on their way to it."""

    life: Life
    guild: GuildActor
    inbox: deque[bytes]


class Tab:
    """A browser's view of one guild, kept up as ``web/src`` does."""

    def __init__(self, number: int, guild_id: int) -> None:
        self.guild_id = guild_id
        self.user_id = 100 + number // 3
        self.watcher = Watcher(f"relay{number % 3}", number)
        self.position: tuple[int, int] | None = None
        self.shown: dict[str, str] = {}
        self.heard: dict[str, str] = {}
        """What came by the stream alone, since the last reload."""
        self.connection: Connection | None = None

    def read(self, database: Database) -> None:
        """Read the next frame."""
        assert self.connection is not None
        frame = json.loads(self.connection.inbox.popleft())
        assert int(frame["guild_id"]) == self.guild_id
        if frame["op"] == "subscribed":
            known = self.position
            if frame["recovered"] and known is not None:
                assert known[0] == frame["epoch"]
                assert known[1] <= frame["offset"]
            else:
                self.position = (frame["epoch"], frame["offset"])
                self.shown, self.heard = database.shown(self.guild_id), {}
            return
        assert frame["op"] == "events"
        for event in frame["events"]:
            assert self.position is not None
            assert (frame["epoch"], event["offset"]) == (self.position[0], self.position[1] + 1), "a gap"
            self.position = (frame["epoch"], event["offset"])
            if event["type"] == "violation":
                violation_id, status = event["data"]["id"], event["data"]["action_status"]
                if violation_id in self.heard:
                    assert self.heard[violation_id] == "pending", "told twice"
                    assert status != "pending", "told twice"
                self.heard[violation_id] = self.shown[violation_id] = status


class World:
    """Everything, and what must hold after every step of it."""

    def __init__(self) -> None:
        self.now_ms = NOON_MS
        self.database = Database()
        self.committed = Ledger()
        self.given = Ledger()
        self.lives = {host_id: Life(self.database.register(host_id)) for host_id in HOSTS}
        self.stale: list[Life] = []
        self.lanes = {
            (shard, host_id): Lane(f"s{shard}>{host_id}") for shard in range(SHARDS) for host_id in HOSTS
        }
        self.delivered: list[bytes] = []
        self.told = 0
        self.placement: Placement | None = None
        """As the director has published it; None when it has just begun."""
        self.published = _nobodys(0)
        """As anybody hears who asks."""
        self.directories = [self.published] * SHARDS
        """As shards know it: they ask when a host refuses."""
        self.handover: Handover | None = None
        self.streams: dict[tuple[int, int], list[bytes | None]] = {}
        """Every event that got an offset, by guild and epoch; None is one that was not published."""
        self.last_left_ms: dict[tuple[int, int], int] = {}
        """When the last of a guild's watchers left it, by guild and epoch."""
        self.tabs = [Tab(number, guild_id) for number, guild_id in enumerate((1, 1, 1, 1, 2, 10))]
        self.statuses: dict[UUID, str] = {}
        self.begin_handover(HOSTS[:2], {})
        self.end_handover()
        self.directories = [self.published] * SHARDS

    # -- shards -------------------------------------------------------------------------------------

    def happen(self, events: Iterable[Event]) -> None:
        events = list(events)
        self.given.note(events)
        self._route(events)

    def _route(self, events: list[Event]) -> None:
        for event in events:
            shard = event.guild_id % SHARDS
            lane = self.lanes[shard, self.directories[shard].owner_of(event.guild_id)]
            lane.waiting.append(event)

    def waiting(self) -> bool:
        """Return whether something is not taken yet."""
        return any(lane.flight or lane.waiting for lane in self.lanes.values())

    def deliver(self, host_id: str, life: Life, fate: Fate, shards: Iterable[int] = range(SHARDS)) -> None:
        """Send a host what shards have for it, as one group."""
        if life.over:
            return
        lanes = [(shard, self.lanes[shard, host_id]) for shard in shards]
        sent = [(shard, lane, payload) for shard, lane in lanes if (payload := lane.batch()) is not None]
        replies = self._take(life, [decode_batch(payload) for _, _, payload in sent], fate)
        if fate == "unheard":
            return
        for (shard, lane, payload), reply in zip(sent, replies, strict=True):
            if isinstance(reply, Accepted):
                lane.flight = None
                self.delivered.append(payload)
            elif isinstance(reply, NotMine):
                self.directories[shard] = self.published
                if any(self.published.owner_of(guild_id) != host_id for guild_id in _guilds_of(payload)):
                    self._route(lane.take_all())

    def deliver_again(self, life: Life, number: int) -> None:
        """Send something that was acknowledged once more, to whatever host: nothing must come of it."""
        if life.over or not self.delivered:
            return
        batch = decode_batch(self.delivered[number % len(self.delivered)])
        commits = self.database.commits
        assert self._take(life, [batch], "made") == [Accepted(batch.number, 0)]
        assert self.database.commits == commits

    # -- hosts --------------------------------------------------------------------------------------

    def _take(self, life: Life, batches: list[Batch], fate: Fate) -> list[Reply]:
        self._end_doubt(life)
        replies: list[Reply] = []
        fresh: list[Batch] = []
        for batch in batches:
            if batch.number <= self.database.tables.marks.get(batch.source, 0):
                replies.append(Accepted(batch.number, 0))  # whatever becomes of the others
            elif all(life.owns(event.guild_id) for event in batch.events):
                fresh.append(batch)
                replies.append(Busy(0))
            else:
                replies.append(NotMine(life.version))
        if not fresh:
            return replies
        try:
            self._commit(life, fresh, fate)
        except StoreUnavailable:
            return replies
        except Fenced:
            self.end(life)
            return [NotMine(0) if isinstance(reply, Busy) else reply for reply in replies]
        return [
            Accepted(batch.number, 0) if isinstance(reply, Busy) else reply
            for batch, reply in zip(batches, replies, strict=True)
        ]

    def _commit(self, life: Life, batches: list[Batch], fate: Fate) -> None:
        events = _distinct([event for batch in batches for event in batch.events])
        guilds = {event.guild_id: self._guild(life, event.guild_id) for event in events}
        decisions = _decide(guilds, events)
        assert _decide(guilds, events) == decisions, "it took some of it already"
        marks = tuple(BatchMark(batch.source, batch.number) for batch in batches)
        effects = tuple(effect for _, effects in decisions.values() for effect in effects)
        commits = self.database.commits
        try:
            committed = self.database.commit(life.incarnation, Commit(effects, (), marks), fate, self.now_ms)
        except StoreUnavailable:
            life.doubt = (marks[0], set(guilds))
            raise
        finally:
            if self.database.commits > commits:
                self.committed.note([event for batch in batches for event in batch.events])
        seen_before = {
            event.event_id for event in events if isinstance(event, ViolationDetected)
        } - committed.new_violations
        if seen_before:
            events = [
                event
                for event in events
                if not (isinstance(event, ViolationDetected) and event.event_id in seen_before)
            ]
            decisions = _decide(guilds, events)
        for guild_id, (state, _) in decisions.items():
            guilds[guild_id].adopt(state)
        self._show(guilds, events, committed)

    def _end_doubt(self, life: Life) -> None:
        """Ask whether the commit was made whose answer was lost; if so, its guilds are loaded anew."""
        if life.doubt is not None:
            self._forget(life, self.behind(life))
            life.doubt = None

    def behind(self, life: Life) -> set[int]:
        """Return the guilds that hold less than the database, because a commit's answer was lost."""
        if life.doubt is None:
            return set()
        mark, guild_ids = life.doubt
        return guild_ids if self.database.tables.marks.get(mark.source, 0) >= mark.number else set()

    def _guild(self, life: Life, guild_id: int) -> GuildActor:
        """Return a guild, activated when it sleeps."""
        if guild_id not in life.guilds:
            life.activations += 1
            epoch = (life.incarnation.number << 28) | life.activations
            state = self.database.load(guild_id, hour_of(self.now_ms) - 23 * HOUR_MS)
            life.guilds[guild_id] = GuildActor(state, epoch, self.now_ms)
            assert (guild_id, epoch) not in self.streams
            self.streams[guild_id, epoch] = []
        return life.guilds[guild_id]

    def _forget(self, life: Life, guild_ids: set[int]) -> None:
        for guild_id in guild_ids & life.guilds.keys():
            guild = life.guilds.pop(guild_id)
            for tab in self._watching(guild):
                tab.connection = None

    def sleep(self, life: Life) -> None:
        """Put to sleep what nobody watches."""
        self._forget(life, {guild_id for guild_id, guild in life.guilds.items() if not guild.watched})

    def end(self, life: Life) -> None:
        """Have a life end, with all that is in its memory."""
        self._forget(life, set(life.guilds))
        life.over, life.placement, life.doubt = True, None, None
        if life in self.stale:
            self.stale.remove(life)

    def replace(self, host_id: str) -> None:
        """Begin a new life of a host. The old one, if it lives, does not know."""
        old = self.lives[host_id]
        if not old.over:
            self.stale.append(old)
        self.lives[host_id] = Life(self.database.register(host_id))

    # -- what is shown ------------------------------------------------------------------------------

    def _show(self, guilds: dict[int, GuildActor], events: list[Event], committed: Committed) -> None:
        frames: dict[int, list[bytes]] = {}

        def publish(guild_id: int, kind: str, ts_ms: int, data: dict[str, Any]) -> None:
            guild = guilds[guild_id]
            last_left_ms = self.last_left_ms.get((guild_id, guild.epoch), -RESUME_MS)
            remembers = bool(self._watching(guild)) or self.now_ms < last_left_ms + RESUME_MS
            assert guild.remembers(self.now_ms) == remembers
            if remembers:
                frames.setdefault(guild_id, []).append(self._publish(guild, kind, ts_ms, data))
            else:
                guild.pass_over()
                self.streams[guild_id, guild.epoch].append(None)

        for event in events:
            if isinstance(event, ViolationDetected):
                view = violation_view(event, committed.committed_at_ms)
                publish(event.guild_id, "violation", event.ts_ms, view.plain())
            elif isinstance(event, BotPresenceChanged):
                publish(event.guild_id, "bot_status", event.ts_ms, {"online": event.online})
        for settled in committed.settled:
            publish(int(settled.guild_id), "violation", settled.ts, settled.plain())
        for guild_id, published in frames.items():
            self._send(guilds[guild_id], published)

    def push_metrics(self, life: Life) -> None:
        """Push the counters of the guilds that are watched."""
        for guild in life.guilds.values():
            if guild.watched:
                data = metrics_update(guild.state, self.now_ms).plain()
                self._send(guild, [self._publish(guild, "metrics_update", self.now_ms, data)])

    def _publish(self, guild: GuildActor, kind: str, ts_ms: int, data: dict[str, Any]) -> bytes:
        stream = self.streams[guild.state.guild_id, guild.epoch]
        event = guild.publish(kind, ts_ms, data)
        stream.append(event)
        assert json.loads(event) == {"offset": len(stream), "type": kind, "ts": ts_ms, "data": data}
        assert guild.offset == len(stream)
        return event

    def _send(self, guild: GuildActor, events: list[bytes]) -> None:
        """Hand a frame to the relays that the guild knows."""
        frame = guild.frame(events)
        relays = set(guild.relays)
        for tab in self._watching(guild):
            if tab.connection and tab.watcher.relay_id in relays:
                tab.connection.inbox.append(frame)

    def subscribe(self, tab: Tab, life: Life) -> None:
        """Let a tab follow its guild in some life of a host, from its position on if it has one."""
        if life.over or tab.connection or not life.owns(tab.guild_id):
            return
        guild = self._guild(life, tab.guild_id)
        said: dict[str, Any] = {"op": "subscribe", "guild_id": str(tab.guild_id)}
        if tab.position is not None:
            said["epoch"], said["offset"] = tab.position
        message = parse_client_message(json.dumps(said))
        assert message == Subscribe(tab.guild_id, tab.position)
        of_this_person = [other for other in self._watching(guild) if other.user_id == tab.user_id]
        room = len(of_this_person) < MAX_SOCKETS_PER_USER
        inbox = self._admit(guild, tab.watcher, tab.user_id, tab.position, room=room)
        if inbox is not None:
            tab.connection = Connection(life, guild, inbox)

    def probe(self, life: Life, epoch: int, back: int) -> None:
        """Come to each guild with any position at all, and leave again."""
        for guild in life.guilds.values():
            stranger = Watcher("stranger", 1)
            position = (guild.epoch + epoch, max(0, guild.offset - back))
            self._admit(guild, stranger, 1, position, room=True)
            guild.dismiss(stranger)  # and is not expected back

    def read(self, tab: Tab, frames: int) -> None:
        """Have a tab read so many of the frames that came."""
        for _ in range(frames):
            if tab.connection and tab.connection.inbox:
                tab.read(self.database)

    def _admit(
        self,
        guild: GuildActor,
        watcher: Watcher,
        user_id: int,
        position: tuple[int, int] | None,
        *,
        room: bool,
    ) -> deque[bytes] | None:
        """Ask for a place; check that the answer is right, and return what goes to the socket."""
        guild_id = guild.state.guild_id
        stream = self.streams[guild_id, guild.epoch]
        assert guild.offset == len(stream)
        try:
            epoch, offset, recovered, replay = guild.admit(watcher, user_id, position)
        except TooManySockets:
            assert not room
            return None
        assert room
        assert (epoch, offset) == (guild.epoch, len(stream))
        missed = stream[position[1] :] if position else []
        published = [json.loads(event) for event in missed if event is not None]
        kept = position is None or (
            position[0] == epoch
            and position[1] <= offset
            and len(published) == len(missed) <= REMEMBERED_EVENTS
        )
        assert recovered == kept
        assert bool(replay) == (kept and bool(missed))
        if replay:
            assert json.loads(replay) == {
                "op": "events",
                "guild_id": str(guild_id),
                "epoch": epoch,
                "events": published,
            }
        answer = subscribed(guild_id, epoch, offset, recovered=recovered)
        return deque([answer, replay] if replay else [answer])

    def leave(self, tab: Tab) -> None:
        if tab.connection is not None:
            guild = tab.connection.guild
            tab.connection = None
            was_last = guild.dismiss(tab.watcher)
            assert was_last == (not self._watching(guild))
            if was_last:
                self._expect_back(guild)

    def lose_relay(self, relay_id: str) -> None:
        for life in self._alive():
            for guild in life.guilds.values():
                relays = {tab.watcher.relay_id for tab in self._watching(guild)}
                were_last = guild.dismiss_relay(relay_id)
                assert were_last == (relays == {relay_id})
                if were_last:
                    self._expect_back(guild)
        for tab in self.tabs:
            if tab.watcher.relay_id == relay_id:
                tab.connection = None

    def _expect_back(self, guild: GuildActor) -> None:
        """Keep for a while what the last watcher that left will have missed, if it comes back."""
        self.last_left_ms[guild.state.guild_id, guild.epoch] = self.now_ms
        guild.keep_until(self.now_ms + RESUME_MS)

    def _watching(self, guild: GuildActor) -> list[Tab]:
        return [tab for tab in self.tabs if tab.connection and tab.connection.guild is guild]

    # -- the director -------------------------------------------------------------------------------

    def begin_handover(self, host_ids: Iterable[str], dedicated: dict[int, str]) -> None:
        """Decide on a placement: first everybody lets go of what moves, then the new owners begin."""
        self.told += 2
        new = msgspec.structs.replace(
            _placed(frozenset(host_ids), tuple(sorted(dedicated.items()))), version=self.told
        )
        if self.placement is None:
            middle = _nobodys(self.told - 1)
        else:
            middle = between(self.told - 1, self.placement, new)
            for guild_id in GUILDS:
                before, after = self.placement.owner_of(guild_id), new.owner_of(guild_id)
                owner = middle.owner_of(guild_id)
                assert owner == before if before == after else owner not in HOSTS
        shared = set(host_ids) - set(dedicated.values())
        for guild_id in GUILDS:
            owner = new.owner_of(guild_id)
            assert owner == dedicated[guild_id] if guild_id in dedicated else owner in shared
        tells = [(placement, host_id) for placement in (middle, new) for host_id in HOSTS]
        self.handover = Handover(tells, new)

    def tell(self, number: int) -> None:
        """Tell one more host, any that has not heard of the placement whose turn it is."""
        if self.handover is None:
            return
        untold, new = self.handover
        turn = [item for item in untold if item[0] is untold[0][0]]
        placement, host_id = turn[number % len(turn)]
        untold.remove((placement, host_id))
        if self.lives[host_id].over:
            self.replace(host_id)
        self._assign(self.lives[host_id], placement)
        if not untold:
            self.placement = self.published = new
            self.handover = None

    def end_handover(self) -> None:
        while self.handover is not None:
            self.tell(0)

    def break_off(self, *, director_dies: bool) -> None:
        """Have a handover break off where it is. A director that dies knows nothing in its next life."""
        if self.handover is not None:
            untold, new = self.handover
            if untold[0][0] is new:
                self.placement = self.published = new
            self.handover = None
        if director_dies:
            self.placement = None

    def _assign(self, life: Life, placement: Placement) -> None:
        if placement.version < life.version:
            return
        before, life.placement = life.placement, placement
        self._end_doubt(life)
        stays = {
            guild_id
            for guild_id in life.guilds
            if before is not None and life.owns(guild_id, before) and life.owns(guild_id)
        }
        self._forget(life, set(life.guilds) - stays)

    # -- what must hold -----------------------------------------------------------------------------

    def _alive(self) -> list[Life]:
        return [*(life for life in self.lives.values() if not life.over), *self.stale]

    def check(self) -> None:
        self._check_tables()
        self._check_owners()
        self._check_memory()
        self._check_tabs()

    def _check_tables(self) -> None:
        """Check that the tables say what was taken: each batch and each violation once."""
        tables = self.database.tables
        rows = Counter((row.guild_id, hour_of(row.ts_ms), row.severity) for row in tables.violations.values())
        assert Counter({key: n for key, n in tables.hours.items() if key[2] in SEVERITIES}) == rows
        assert tables.hours == self.committed.hours
        assert len(tables.violations) == len(self.committed.violations)
        assert {row.event_id: row for row in tables.violations.values()} == self.committed.violations
        for guild_id in GUILDS:
            guild = tables.guilds.get(guild_id) or GuildRow(guild_id, None, None, None, False, False)
            assert {
                "name": guild.name,
                "icon": guild.icon_url,
                "members": guild.member_count,
                "present": guild.bot_present,
                "online": guild.bot_online,
            } == self.committed.guild(guild_id)
        for row in tables.violations.values():
            before = self.statuses.get(row.event_id, row.action_status)
            assert before in ("pending", row.action_status), "it was settled already"
            self.statuses[row.event_id] = row.action_status

    def _check_owners(self) -> None:
        """Check that a guild can be written by one life at most."""
        for guild_id in GUILDS:
            writers = [
                life.incarnation
                for life in self._alive()
                if life.owns(guild_id)
                and self.database.lives[life.incarnation.host_id] == life.incarnation.number
            ]
            assert len(writers) <= 1, writers

    def _check_memory(self) -> None:
        """Check that an owner's memory is what the database would give it, with the right counters."""
        for life in self.lives.values():
            behind = self.behind(life)
            for guild_id, guild in life.guilds.items():
                assert life.owns(guild_id)
                if guild_id in behind:
                    continue
                durable = self.database.load(guild_id, 0)
                newest = max((hour.hour_ms for hour in durable.hours), default=0)
                since = max(newest, hour_of(self.now_ms)) - 23 * HOUR_MS
                assert _from(guild.state, since) == _from(durable, since)
                if newest <= self.now_ms:
                    live = metrics_update(guild.state, self.now_ms).plain()
                    assert live == self.committed.last_day(guild_id, self.now_ms)

    def _check_tabs(self) -> None:
        """Check that who has read all that came sees what is stored, and that guilds know who watches."""
        for tab in self.tabs:
            if tab.connection is None:
                continue
            life, _, inbox = tab.connection
            current = self.lives[life.incarnation.host_id] is life
            if current and not inbox and tab.guild_id not in self.behind(life):
                assert tab.shown == self.database.shown(tab.guild_id)
        for life in self._alive():
            for guild in life.guilds.values():
                watching = self._watching(guild)
                assert guild.watched == bool(watching)
                assert set(guild.relays) == {tab.watcher.relay_id for tab in watching}

    def calm(self) -> None:
        """Let the storm pass: everything that was given is durable then, once, and everybody sees it."""
        for host_id, life in list(self.lives.items()):
            if life.over:
                self.replace(host_id)
        self.end_handover()
        self.begin_handover(HOSTS, {})
        self.end_handover()
        for _ in range(10 + sum(len(lane.waiting) for lane in self.lanes.values())):
            if not self.waiting():
                break
            for host_id, life in self.lives.items():
                self.deliver(host_id, life, "made")
        else:
            raise AssertionError("it never comes to rest")
        # Of a violation that was told in two ways, any may have come first.
        assert _without_violations(self.committed.hours) == _without_violations(self.given.hours)
        assert self.committed.violations.keys() == self.given.violations.keys()
        for tab in self.tabs:
            self.leave(tab)
        for tab in self.tabs:
            self.subscribe(tab, self.lives[self.published.owner_of(tab.guild_id)])
            self.read(tab, 2)
        self.check()


def _guilds_of(payload: bytes) -> set[int]:
    return {event.guild_id for event in decode_batch(payload).events}


def _from(state: GuildState, since_ms: int) -> GuildState:
    hours = tuple(hour for hour in state.hours if hour.hour_ms >= since_ms)
    return msgspec.structs.replace(state, hours=hours)


def _without_violations(hours: Columns) -> Columns:
    return Counter({key: count for key, count in hours.items() if key[2] not in SEVERITIES})


def _decide(guilds: dict[int, GuildActor], events: list[Event]) -> dict[int, Decision]:
    return {
        guild_id: guild.decide([event for event in events if event.guild_id == guild_id])
        for guild_id, guild in guilds.items()
        if any(event.guild_id == guild_id for event in events)
    }


def _distinct(events: list[Event]) -> list[Event]:
    """Drop a violation that the same group already names."""
    seen: set[UUID] = set()
    distinct: list[Event] = []
    for event in events:
        if isinstance(event, ViolationDetected):
            if event.event_id in seen:
                continue
            seen.add(event.event_id)
        distinct.append(event)
    return distinct


def _nobodys(version: int) -> Placement:
    return Placement(version, (NOBODY,) * 4096)


@lru_cache
def _placed(host_ids: frozenset[str], dedicated: tuple[tuple[int, str], ...]) -> Placement:
    return place(0, host_ids, dict(dedicated))
