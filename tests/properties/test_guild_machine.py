"""Whatever happens to guilds, in whatever order: nothing is counted twice, lost, or shown wrongly."""

from __future__ import annotations

import sys

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from adapters.memory.samples import described, person, violation
from domain.events import (
    SEVERITIES,
    ActionSettled,
    ActionStatus,
    BotPresenceChanged,
    Event,
    GuildLeft,
    MemberJoined,
    MemberLeft,
    MessagesCounted,
)
from tests.properties.guild_ledger import HOUR_MS, Fate
from tests.properties.guild_world import GUILDS, HOSTS, MAX_SOCKETS_PER_USER, REMEMBERED_EVENTS, Life, World

guilds = st.sampled_from(GUILDS)
hosts = st.sampled_from(HOSTS)
Send = tuple[str, Fate, tuple[int, ...]]
"""To which host, what becomes of it, and the shards that have something for it at that moment."""

cuts: st.SearchStrategy[Fate] = st.integers(0, 12)
answers: st.SearchStrategy[Fate] = st.sampled_from(["made", "made", "made", "lost", "unheard"])
fates = answers | cuts
losses: st.SearchStrategy[Fate] = st.sampled_from(["lost", "unheard", "made"])
moments = st.integers(-30 * 60, 60).map(lambda minutes: minutes * 60_000)
"""Times of events, from now: most come late, some are ahead of a host's clock."""
numbers = st.integers(1, 3)
some_hosts = st.sets(hosts, min_size=1)
turns = st.lists(st.integers(0, 5), min_size=1, max_size=6)
some_tabs = st.sets(st.integers(0, 5), min_size=1)


def settled(guild_id: int, number: int, moment: int, status: ActionStatus) -> ActionSettled:
    return ActionSettled(guild_id, violation(guild_id, number).event_id, moment, status)


violations = st.builds(
    violation,
    guilds,
    numbers,
    severity=st.sampled_from(SEVERITIES),
    action_status=st.sampled_from(["pending", "pending", "pending", "none", "done", "failed"]),
    user=st.builds(person, numbers),
    ts_ms=moments,
)
settlements = st.builds(settled, guilds, numbers, moments, st.sampled_from(["done", "failed"]))
events: st.SearchStrategy[Event] = st.one_of(
    violations,
    settlements,
    violations | settlements,
    st.builds(MessagesCounted, guilds, moments, st.integers(1, 5)),
    st.builds(MemberJoined, guilds, st.builds(person, numbers), moments),
    st.builds(MemberLeft, guilds, numbers, moments),
    st.builds(
        described,
        guilds,
        name=st.sampled_from(["A", "B"]),
        icon_url=st.sampled_from([None, "icon"]),
        member_count=st.integers(0, 2),
    ),
    st.builds(GuildLeft, guilds),
    st.builds(BotPresenceChanged, guilds, st.booleans(), moments),
)
some_events = st.lists(events, min_size=1, max_size=8)
shards = st.sampled_from([(0, 1), (0, 1), (0,), (1,)])
sends = st.lists(st.tuples(hosts, fates, shards), min_size=1, max_size=6)


class GuildMachine(RuleBasedStateMachine):
    """Drives a world; see :class:`tests.properties.guild_world.World`."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.times: dict[object, int] = {}

    # -- what happens on Discord --------------------------------------------------------------------

    @rule(events=some_events)
    def something_happens(self, events: list[Event]) -> None:
        self.world.happen(self.dated(event) for event in events)

    @rule(events=some_events, sends=sends)
    def something_happens_and_is_sent(self, events: list[Event], sends: list[Send]) -> None:
        self.something_happens(events)
        self.send(sends)

    @rule(guild_id=guilds, hours=st.integers(20, 30), backwards=st.booleans())
    def a_long_day(self, guild_id: int, hours: int, backwards: bool) -> None:
        ago = range(hours) if backwards else range(hours)[::-1]
        now_ms = self.world.now_ms
        self.world.happen(MessagesCounted(guild_id, now_ms - hour * HOUR_MS, 1 + hour) for hour in ago)

    @rule(minutes=st.integers(1, 90) | st.integers(1, 40).map(lambda hours: 60 * hours))
    def time_passes(self, minutes: int) -> None:
        self.world.now_ms += minutes * 60_000

    def dated(self, event: Event) -> Event:
        """Return an event with its time; all that is told of one violation is told of one time."""
        now_ms = self.world.now_ms
        if isinstance(event, MessagesCounted):
            return msgspec.structs.replace(event, hour_ms=now_ms + event.hour_ms)
        ts_ms = getattr(event, "ts_ms", None)
        if ts_ms is None:
            return event
        key = getattr(event, "event_id", None)
        at = now_ms + ts_ms if key is None else self.times.setdefault(key, now_ms + ts_ms)
        return msgspec.structs.replace(event, ts_ms=at)

    # -- hosts --------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.waiting())
    @rule(sends=sends)
    def hosts_take_what_waits(self, sends: list[Send]) -> None:
        self.send(sends)

    def send(self, sends: list[Send]) -> None:
        for host_id, fate, shards in sends:
            self.world.deliver(host_id, self.world.lives[host_id], fate, shards)

    @precondition(lambda self: self.world.stale and self.world.waiting())
    @rule(number=st.integers(0, 5), fate=fates)
    def a_stale_host_is_sent_what_waits(self, number: int, fate: Fate) -> None:
        life = self.world.stale[number % len(self.world.stale)]
        written = self.world.database.tables
        self.world.deliver(life.incarnation.host_id, life, fate)
        assert self.world.database.tables is written

    @rule(
        guild_id=guilds,
        before=some_events,
        how=st.tuples(losses, shards),
        after=some_events,
        host_ids=some_hosts,
    )
    def a_host_is_replaced_in_the_middle(
        self,
        guild_id: int,
        before: list[Event],
        how: tuple[Fate, tuple[int, ...]],
        after: list[Event],
        host_ids: set[str],
    ) -> None:
        """Its answer may be lost, its guilds may have moved, and shards go on with the life they know."""
        host_id = self.world.published.owner_of(guild_id)
        old = self.world.lives[host_id]
        self.something_happens_and_is_sent(before, [(host_id, *how)])
        self.world.replace(host_id)
        self.world.end_handover()
        self.world.begin_handover(host_ids, {})
        self.world.end_handover()
        self.something_happens(after)
        self.world.deliver(host_id, old, "made")

    @precondition(lambda self: self.world.delivered)
    @rule(life=st.integers(0, 5), number=st.integers(0, 20))
    def an_old_batch_comes_again(self, life: int, number: int) -> None:
        self.world.deliver_again(self.life(life), number)

    @rule(
        what=st.sampled_from(["host dies", "host is replaced", "guilds sleep", "relay is lost"]),
        number=st.integers(0, 5),
    )
    def something_fails(self, what: str, number: int) -> None:
        host_id = HOSTS[number % len(HOSTS)]
        match what:
            case "host dies":
                self.world.end(self.world.lives[host_id])
            case "host is replaced":
                self.world.replace(host_id)
            case "guilds sleep":
                self.world.sleep(self.life(number))
            case _:
                self.world.lose_relay(f"relay{number % 3}")

    def life(self, number: int) -> Life:
        """Return some life, perhaps one that was replaced."""
        lives = [*self.world.lives.values(), *self.world.stale]
        return lives[number % len(lives)]

    # -- the director -------------------------------------------------------------------------------

    @precondition(lambda self: self.world.handover is None)
    @rule(host_ids=some_hosts, own=st.dictionaries(guilds, hosts, max_size=2), told=turns)
    def guilds_are_to_move(self, host_ids: set[str], own: dict[int, str], told: list[int]) -> None:
        if host_ids - set(own.values()):
            self.world.begin_handover(host_ids, own)
            self.hosts_hear(told)

    @precondition(lambda self: self.world.handover is not None)
    @rule(told=turns)
    def hosts_are_told(self, told: list[int]) -> None:
        self.hosts_hear(told)

    @precondition(lambda self: self.world.handover is not None)
    @rule(director_dies=st.booleans())
    def the_handover_breaks_off(self, director_dies: bool) -> None:
        self.world.break_off(director_dies=director_dies)

    def hosts_hear(self, told: list[int]) -> None:
        for number in told:
            self.world.tell(number)

    # -- browsers -----------------------------------------------------------------------------------

    @precondition(lambda self: not all(tab.connection for tab in self.world.tabs))
    @rule(tabs=some_tabs, stale=st.booleans(), frames=st.integers(0, 3))
    def tabs_subscribe(self, tabs: set[int], stale: bool, frames: int) -> None:
        world = self.world
        for tab in (world.tabs[number] for number in sorted(tabs)):
            owner = world.lives[world.published.owner_of(tab.guild_id)]
            world.subscribe(tab, world.stale[0] if stale and world.stale else owner)
            world.read(tab, frames)

    @precondition(lambda self: any(tab.connection and tab.connection.inbox for tab in self.world.tabs))
    @rule(frames=st.integers(1, 10))
    def tabs_read(self, frames: int) -> None:
        for tab in self.world.tabs:
            self.world.read(tab, frames)

    @rule(
        tabs=some_tabs | st.sampled_from([{0, 1, 2, 3}, {4}, {5}]),
        before=some_events,
        minutes=st.sampled_from([0, 5, 10, 15]),
        meanwhile=some_events,
        how=st.tuples(answers, shards),
    )
    def tabs_are_away_for_a_moment(
        self,
        tabs: set[int],
        before: list[Event],
        minutes: int,
        meanwhile: list[Event],
        how: tuple[Fate, tuple[int, ...]],
    ) -> None:
        sends = [(host_id, *how) for host_id in HOSTS]
        self.tabs_subscribe(tabs, stale=False, frames=2)
        self.something_happens_and_is_sent(before, sends)
        self.tabs_read(frames=10)
        for number in tabs:
            self.world.leave(self.world.tabs[number])
        self.time_passes(minutes)
        self.something_happens_and_is_sent(meanwhile, sends)
        self.tabs_subscribe(tabs, stale=False, frames=2)

    @rule(positions=st.lists(st.tuples(st.sampled_from([0, 0, -1, 1]), st.integers(-2, 8)), min_size=1))
    def somebody_comes_with_any_position(self, positions: list[tuple[int, int]]) -> None:
        for life in (*self.world.lives.values(), *self.world.stale):
            for epoch, back in positions:
                self.world.probe(life, epoch, back)

    @precondition(lambda self: any(tab.connection for tab in self.world.tabs))
    @rule(life=st.integers(0, 5))
    def counters_are_pushed(self, life: int) -> None:
        self.world.push_metrics(self.life(life))

    # -- what holds ---------------------------------------------------------------------------------

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if sys.exception() is None:
            self.world.calm()


@pytest.mark.timeout(0)
def test_no_order_of_events_and_failures_breaks_a_guild(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is resent, cut off, moved, fenced or resumed."""
    monkeypatch.setattr("actors.guild.REMEMBERED_EVENTS", REMEMBERED_EVENTS)
    monkeypatch.setattr("actors.guild.MAX_SOCKETS_PER_USER", MAX_SOCKETS_PER_USER)
    thorough = settings(
        max_examples=70,
        stateful_step_count=50,
        deadline=None,
        report_multiple_bugs=False,
        phases=[phase for phase in Phase if phase is not Phase.explain],  # it takes longer than to shrink
    )
    run_state_machine_as_test(GuildMachine, settings=thorough)
