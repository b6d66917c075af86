"""Sessions at a replica: guilds as Discord says now, and reading that goes on while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from adapters.memory import MemoryClock, MemoryEndedSessions, MemoryLogin, MemorySessions
from adapters.memory.samples import person
from domain.errors import DiscordBusy, DiscordUnavailable, LoginFailed, SealBroken, SessionsUnavailable
from domain.sessions import (
    GUILDS_KEPT_MS,
    IDLE_MS,
    SESSION_MS,
    Identity,
    Memberships,
    Session,
    SessionGuild,
    Tokens,
    session_id_of,
)
from serve_app import sessions as module
from serve_app.sessions import FRESH_MS, MAX_REST_MS, REMEMBERED_S, REST_MS, SHOWN_MS, Sessions
from tests.serve_app.scripted_host import until
from tests.serve_app.web import membership

HERE, THERE = membership(1), membership(2)
WAIT_S = 0.2


class SlowDiscord(MemoryLogin):
    """Answers when it is let: ``open`` holds every question back."""

    def __init__(self, clock: MemoryClock) -> None:
        super().__init__(now_ms=clock)
        self.open = asyncio.Event()
        self.open.set()
        self.begun = 0
        """Lists that were asked for, answered or not."""

    async def guilds(self, access_token: str) -> tuple[SessionGuild, ...]:
        self.begun += 1
        await self.open.wait()
        return await super().guilds(access_token)

    async def renew(self, refresh_token: str) -> Tokens:
        await self.open.wait()
        return await super().renew(refresh_token)

    async def revoke(self, tokens: Tokens) -> None:
        await self.open.wait()
        await super().revoke(tokens)


class House:
    """A store, Discord, and replicas that look at both."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.store = MemorySessions(self.clock)
        self.discord = SlowDiscord(self.clock)
        self.set_back_ms = 0
        self.replicas: list[Sessions] = []
        self.one = self.replica()

    def replica(self, wait_s: float = WAIT_S) -> Sessions:
        clock = self.monotonic_s
        self.replicas.append(Sessions(self.store, self.discord, self.clock, wait_s=wait_s, monotonic_s=clock))
        return self.replicas[-1]

    def monotonic_s(self) -> float:
        return (self.clock() + self.set_back_ms) / 1000

    def set_back(self, by_ms: int) -> None:
        self.clock.advance(-by_ms)
        self.set_back_ms += by_ms

    async def log_in(self, user_id: int = 1, *, instead_of: str | None = None) -> str:
        """Return the token of somebody who is in one guild."""
        self.discord.allow("code", "verifier", Identity(person(user_id), (HERE,)))
        identity = await self.discord.identify("code", "verifier")
        return await self.one.begin(identity, instead_of=instead_of)

    async def settle(self) -> None:
        await asyncio.gather(*(replica.settle() for replica in self.replicas))

    async def guilds(self, token: str, replica: Sessions | None = None) -> tuple[SessionGuild, ...]:
        """Return the guilds that a request is answered by."""
        session = await (replica or self.one).get(token)
        assert session is not None
        return session.guilds


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    house.discord.open.set()
    await house.settle()
    for replica in house.replicas:
        await replica.close()


async def test_a_fresh_list_asks_nobody(house: House) -> None:
    """However many pages are loaded in five minutes."""
    token = await house.log_in()
    house.clock.advance(FRESH_MS - 1)
    for _ in range(100):
        assert await house.guilds(token) == (HERE,)
    assert house.discord.asked["guilds"] == 0


async def test_a_list_is_refreshed_behind_an_answer(house: House) -> None:
    """After five minutes a request is answered at once, and the next one by what Discord says now."""
    token = await house.log_in()
    house.discord.move(1, (THERE,))
    house.discord.open.clear()
    house.clock.advance(FRESH_MS)
    patient = house.replica(wait_s=3_600)
    assert await asyncio.wait_for(house.guilds(token, patient), 5) == (HERE,)
    house.discord.open.set()
    await house.settle()
    assert await house.guilds(token) == (THERE,)
    assert house.discord.asked["guilds"] == 1


async def test_whoever_comes_back_later_is_shown_nothing_old(house: House) -> None:
    """After ten minutes the first request already knows that somebody was removed from a guild."""
    token = await house.log_in()
    house.discord.move(1, ())
    house.clock.advance(SHOWN_MS)
    assert await house.guilds(token) == ()


async def test_who_only_watches_has_the_list_asked_for_too(house: House) -> None:
    """Behind the answer; it is as old as the question, and nobody's session lives longer for it."""
    token = await house.log_in()
    began_ms = house.clock()
    house.discord.move(1, (THERE,))
    assert await house.one.memberships({1: token, 2: "gone"}) == {1: Memberships((HERE,), began_ms)}
    house.clock.advance(FRESH_MS)
    house.discord.open.clear()
    assert (await house.one.memberships({1: token}))[1].guilds == (HERE,)
    asked_ms = house.clock()
    await until(lambda: house.discord.begun)
    house.clock.advance(1_000)
    house.discord.open.set()
    await house.settle()
    assert await house.one.memberships({1: token}) == {1: Memberships((THERE,), asked_ms)}
    house.clock.advance(IDLE_MS - FRESH_MS - 1_000)
    assert await house.store.alive({session_id_of(token)}) == set()


async def test_a_clock_that_is_set_back_makes_no_list_new(house: House) -> None:
    """One from the future is as old as can be, at every replica; and nobody is remembered for longer."""
    token = await house.log_in()
    house.set_back(3_600_000)
    house.discord.move(1, (THERE,))
    assert await house.guilds(token) == (THERE,)
    assert await house.guilds(token, house.replica()) == (THERE,)
    assert house.discord.asked["guilds"] == 1
    assert (await house.one.memberships({1: token}))[1].as_of_ms == house.clock()
    house.set_back(3_600_000)
    house.store.available = False
    house.clock.advance(int(REMEMBERED_S * 1000))
    with pytest.raises(SessionsUnavailable):
        await house.one.get(token)


async def test_lists_of_those_who_watch_are_asked_for_in_turns(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many at once; the others when one looks again."""
    monkeypatch.setattr(module, "MAX_ASKING", 1)
    people = {user_id: await house.log_in(user_id) for user_id in (1, 2)}
    house.clock.advance(FRESH_MS)
    for asked in (1, 2):
        await house.one.memberships(people)
        await house.settle()
        assert house.discord.asked["guilds"] == asked


@pytest.mark.parametrize("age_ms", [FRESH_MS, SHOWN_MS])
async def test_one_asks_for_all(house: House, age_ms: int) -> None:
    """Fifty requests on two replicas, with two sessions of a person: Discord hears one question."""
    tokens = [await house.log_in(), await house.log_in()]
    replicas = [house.one, house.replica()]
    house.discord.move(1, (THERE,))
    house.clock.advance(age_ms)
    house.discord.open.clear()
    requests = [asyncio.create_task(house.guilds(tokens[n % 2], replicas[n // 2 % 2])) for n in range(50)]
    await asyncio.sleep(0)
    house.discord.open.set()
    shown = set(await asyncio.gather(*requests))
    await house.settle()
    assert house.discord.asked["guilds"] == 1
    if age_ms == SHOWN_MS:
        assert shown == {(THERE,)}
    assert await house.guilds(tokens[0], replicas[1]) == (THERE,)


@pytest.mark.parametrize("problem", [DiscordUnavailable(), DiscordBusy(retry_after_s=1.0)])
async def test_discord_away_throws_nobody_out(house: House, problem: Exception) -> None:
    """The last list is shown for a day, and Discord is asked again four times a minute at most."""
    token = await house.log_in()
    house.discord.problem = problem
    house.clock.advance(SHOWN_MS)
    for _ in range(20):
        assert await house.guilds(token) == (HERE,)
    await house.settle()
    assert house.discord.asked["guilds"] == 1
    house.clock.advance(REST_MS)
    assert await house.guilds(token) == (HERE,)
    await house.settle()
    assert house.discord.asked["guilds"] == 2
    house.discord.problem = None
    house.discord.move(1, (THERE,))
    house.clock.advance(REST_MS)
    assert await house.guilds(token) == (THERE,)


async def test_after_a_day_without_a_word_nobody_is_anywhere(house: House) -> None:
    """Who is a member is not guessed any longer; the session goes on."""
    token = await house.log_in()
    house.discord.problem = DiscordUnavailable()
    house.clock.advance(IDLE_MS - 1)
    assert await house.guilds(token) == (HERE,)
    house.clock.advance(GUILDS_KEPT_MS - IDLE_MS + 1)
    assert await house.guilds(token) == ()
    await house.settle()
    house.discord.problem = None
    house.clock.advance(REST_MS)
    assert await house.guilds(token) == (HERE,)


async def test_a_busy_discord_is_left_alone(house: House) -> None:
    """For as long as it says, by every replica, within reason."""
    token, other = await house.log_in(), house.replica()
    house.discord.problem = DiscordBusy(retry_after_s=100_000)
    house.clock.advance(SHOWN_MS)
    await house.guilds(token)
    await house.settle()
    house.discord.problem = None
    house.clock.advance(MAX_REST_MS - 1)
    for replica in (house.one, other):
        await house.guilds(token, replica)
    await house.settle()
    assert house.discord.asked["guilds"] == 1
    house.clock.advance(REST_MS)
    await house.guilds(token)
    await house.settle()
    assert house.discord.asked["guilds"] == 2


async def test_a_discord_that_hangs_holds_up_no_page(house: House) -> None:
    """A request waits a moment and goes on with the list there is; the answer still counts when it comes."""
    token = await house.log_in()
    house.discord.move(1, (THERE,))
    house.discord.open.clear()
    house.clock.advance(SHOWN_MS)
    assert await house.guilds(token) == (HERE,)
    house.discord.open.set()
    await house.settle()
    assert await house.guilds(token) == (THERE,)


async def test_a_discord_that_hangs_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else gets the turn after a rest."""
    monkeypatch.setattr(module, "ASK_WITHIN_S", 0.01)
    token = await house.log_in()
    house.discord.open.clear()
    house.clock.advance(SHOWN_MS)
    await house.guilds(token)
    await house.settle()
    house.discord.open.set()
    assert not await house.store.take_turn("guilds:1", 1)
    house.clock.advance(REST_MS)
    assert await house.store.take_turn("guilds:1", 1)


async def test_tokens_are_renewed_before_they_end(house: House) -> None:
    """Once, by one replica; what comes of it is kept."""
    house.discord.life_ms = 60 * 60_000
    token, other = await house.log_in(), house.replica()
    before = await house.store.tokens(token)
    house.clock.advance(house.discord.life_ms - 60_000)
    await asyncio.gather(house.guilds(token), house.guilds(token, other))
    await house.settle()
    assert house.discord.asked["renew"] == 1
    after = await house.store.tokens(token)
    assert after is not None
    assert after != before
    assert after.expires_at_ms == house.clock() + house.discord.life_ms
    house.clock.advance(FRESH_MS)
    await house.guilds(token)
    await house.settle()
    assert house.discord.asked["renew"] == 1


async def test_tokens_that_ended_unseen_are_renewed(house: House) -> None:
    """Somebody comes back after the access token has ended: the refresh token still holds."""
    house.discord.life_ms = 60_000
    token = await house.log_in()
    house.clock.advance(IDLE_MS - 1)
    assert await house.guilds(token) == (HERE,)
    assert house.discord.asked["renew"] == 1


async def test_a_refused_renewal_ends_the_session(house: House) -> None:
    """Who removed us from their account is logged out within minutes; other people are not."""
    token, somebody_else = await house.log_in(1), await house.log_in(2)
    house.discord.disown(1)
    house.clock.advance(SHOWN_MS)
    assert await house.one.get(token) is None
    assert house.store.ended == [session_id_of(token)]
    assert await house.guilds(somebody_else) == (HERE,)


async def test_a_refused_renewal_ends_that_session_alone(house: House) -> None:
    """A session of the same person whose tokens are good goes on."""
    stale = await house.log_in()
    house.discord.disown(1)
    good = await house.log_in()
    house.clock.advance(SHOWN_MS)
    assert await house.one.get(stale) is None
    assert await house.guilds(good) == (HERE,)


async def test_what_cannot_be_opened_any_more_ends_the_session(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator took the key away: the person logs in again."""
    token = await house.log_in()

    async def broken(token: str) -> Tokens | None:
        del token
        raise SealBroken

    monkeypatch.setattr(house.store, "tokens", broken)
    house.clock.advance(SHOWN_MS)
    assert await house.one.get(token) is None


async def test_tokens_that_somebody_else_renewed_are_used(house: House) -> None:
    """A replica that was too slow finds its tokens refused, and newer ones in the store."""
    token = await house.log_in()
    kept = await house.store.tokens(token)
    assert kept is not None
    newer = await house.discord.renew(kept.refresh_token)

    first = True
    tokens_now = house.store.tokens

    async def old_first(asked: str) -> Tokens | None:
        nonlocal first
        if first:
            first = False
            await house.store.keep_tokens(token, newer)
            return kept
        return await tokens_now(asked)

    house.store.tokens = old_first  # type: ignore[method-assign]
    house.clock.advance(SHOWN_MS)
    assert await house.guilds(token) == (HERE,)
    assert await tokens_now(token) == newer


async def test_a_logout_during_a_renewal_wins(house: House) -> None:
    """The session stays ended, and the pair that nobody asked for any more is taken back."""
    house.discord.life_ms = 1
    token = await house.log_in()
    keep = house.store.keep_tokens

    async def too_late(asked: str, tokens: Tokens) -> bool:
        await house.store.end(asked)
        return await keep(asked, tokens)

    house.store.keep_tokens = too_late  # type: ignore[method-assign]
    house.clock.advance(SHOWN_MS)
    assert await house.one.get(token) is None
    await house.settle()
    assert house.discord.asked["renew"] == 1
    assert not house.discord.has_pairs(1)


async def test_the_last_logout_takes_the_tokens_back(house: House) -> None:
    """Not an earlier one: Discord would end the tokens of the person's other sessions, too."""
    first, second = await house.log_in(), await house.log_in()
    await house.one.end(first)
    await house.settle()
    assert house.discord.asked["revoke"] == 0
    house.clock.advance(SHOWN_MS)
    assert await house.guilds(second) == (HERE,)
    await house.one.end(second)
    await house.settle()
    assert not house.discord.has_pairs(1)


async def test_logging_out_everywhere_ends_every_session(house: House) -> None:
    """At every replica, at once; the tokens go, and others stay."""
    tokens, other = [await house.log_in() for _ in range(3)], house.replica()
    somebody_else = await house.log_in(2)
    await other.end_everywhere(1)
    for replica in (house.one, other):
        assert [await replica.get(token) for token in tokens] == [None] * 3
    await house.settle()
    assert not house.discord.has_pairs(1)
    assert house.discord.has_pairs(2)
    assert await house.guilds(somebody_else) == (HERE,)


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_logout_waits_for_no_discord(
    house: House, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    """It tries to take the tokens back, for a moment, and that it cannot changes nothing."""
    monkeypatch.setattr(module, "REVOKE_WITHIN_S", 0.01)
    token = await house.log_in()
    house.discord.problem = DiscordUnavailable()
    if hangs:
        house.discord.open.clear()
    await house.one.end(token)
    assert await house.one.get(token) is None
    await house.settle()


async def test_a_login_takes_the_place_of_the_browsers_session(house: House) -> None:
    """Its token is new, and the old one opens nothing any more, whoever it was; their tokens go if due."""
    before = await house.log_in(1)
    same = await house.log_in(1, instead_of=before)
    assert same != before
    assert await house.one.get(before) is None
    await house.settle()
    assert house.discord.asked["revoke"] == 0
    other = await house.log_in(2, instead_of=same)
    assert await house.one.get(same) is None
    assert (await house.guilds(other)) == (HERE,)
    await house.settle()
    assert not house.discord.has_pairs(1)
    assert house.discord.has_pairs(2)


@pytest.mark.parametrize("old", ["", "never given", "\ud800"])
async def test_a_made_up_session_hinders_no_login(house: House, old: str) -> None:
    """Whatever the browser said it had."""
    assert await house.one.get(await house.log_in(instead_of=old)) is not None


# -- the store is away


async def test_what_was_seen_can_go_on_reading(house: House) -> None:
    """For ten minutes after it was last seen alive, at the replica that saw it; then all is as before."""
    token, other = await house.log_in(), house.replica()
    seen = await house.one.get(token)
    assert seen is not None
    assert seen.confirmed
    house.store.available = False
    remembered = await house.one.get(token)
    assert remembered is not None
    assert (remembered.user, remembered.guilds, remembered.confirmed) == (seen.user, seen.guilds, False)
    with pytest.raises(SessionsUnavailable):
        await other.get(token)
    house.clock.advance(int(REMEMBERED_S * 1000) - 1)
    assert await house.one.get(token) is not None
    house.clock.advance(1)
    with pytest.raises(SessionsUnavailable):
        await house.one.get(token)
    house.store.available = True
    for replica in (house.one, other):
        back = await replica.get(token)
        assert back is not None
        assert back.confirmed


async def test_who_is_alive_is_answered_by_the_store_alone(house: House) -> None:
    """What a replica remembers is no answer; what it ended is over, whatever the store says."""
    tokens = [await house.log_in() for _ in range(2)]
    first, second = [session_id_of(token) for token in tokens]
    assert await house.one.alive([first, second, "made up"]) == {first, second}
    kept = dict(house.store._sessions)
    await house.one.end(tokens[0])
    house.store._sessions.update(kept)  # as a replica of Redis would that lagged behind
    assert await house.one.alive([first, second]) == {second}
    house.store.available = False
    with pytest.raises(SessionsUnavailable):
        await house.one.alive([second])


async def test_a_logout_elsewhere_is_heard_of_before_the_store_goes_away(house: House) -> None:
    """Who logged out at one replica does not read on at another; after a break nobody is believed unasked."""
    ended = MemoryEndedSessions(house.store)
    other = house.replica()
    tokens = [await house.log_in() for _ in range(2)]
    await other.get(tokens[0])
    hearing = asyncio.create_task(other.hear_of_ends(ended))
    await until(lambda: not other._remembered)  # it has begun to hear
    for token in tokens:
        await other.get(token)
    await house.one.end(tokens[0])
    await until(lambda: session_id_of(tokens[0]) in other._ended)
    house.store.available = False
    assert await other.get(tokens[0]) is None
    assert await other.get(tokens[1]) is not None
    ended.miss()
    await until(lambda: not other._remembered)
    with pytest.raises(SessionsUnavailable):
        await other.get(tokens[1])
    await ended.close()
    await hearing


async def test_being_used_from_memory_prolongs_nothing(house: House) -> None:
    """Ten minutes since the store confirmed it, not since it was asked for."""
    token = await house.log_in()
    await house.one.get(token)
    house.store.available = False
    for _ in range(10):
        assert await house.one.get(token) is not None
        house.clock.advance(int(REMEMBERED_S * 100))
    with pytest.raises(SessionsUnavailable):
        await house.one.get(token)


async def test_what_was_never_seen_cannot_be_read(house: House) -> None:
    """A made-up token is neither let in nor told that it is none."""
    house.store.available = False
    with pytest.raises(SessionsUnavailable):
        await house.one.get("made up")


@pytest.mark.parametrize("how", ["end", "end_everywhere", "refused", "found ended"])
async def test_what_ended_is_never_revived(house: House, how: str) -> None:
    """Neither from memory, nor when the store comes back with an older state of itself."""
    token, other = await house.log_in(), house.replica()
    session = await house.one.get(token)
    assert session is not None
    older = dict(house.store._sessions)
    match how:
        case "end":
            await house.one.end(token)
        case "end_everywhere":
            await house.one.end_everywhere(1)
        case "refused":
            house.discord.disown(1)
            house.clock.advance(FRESH_MS)
            await house.one.get(token)
            await house.settle()
        case _:
            await other.end(token)
            assert await house.one.get(token) is None
    house.store.available = False
    if how == "found ended":
        with pytest.raises(SessionsUnavailable):
            await house.one.get(token)
        return
    assert await house.one.get(token) is None
    house.store.available = True
    house.store._sessions |= older
    assert await house.one.get(token) is None


async def test_a_logout_overtakes_a_request_under_way(house: House) -> None:
    """Who asked before the logout and is answered after it leaves nothing to remember."""
    token = await house.log_in()
    reached, go_on = asyncio.Event(), asyncio.Event()
    get = house.store.get

    async def slow(asked: str) -> Session | None:
        found = await get(asked)
        reached.set()
        await go_on.wait()
        return found

    house.store.get = slow  # type: ignore[method-assign]
    asking = asyncio.create_task(house.one.get(token))
    await reached.wait()
    await house.one.end(token)
    go_on.set()
    assert await asking is None
    house.store.available = False
    assert await house.one.get(token) is None


async def test_the_store_may_go_away_at_any_moment(house: House) -> None:
    """Also while Discord is asked: nothing breaks, and nobody is thrown out."""
    token = await house.log_in()
    house.discord.open.clear()
    house.clock.advance(SHOWN_MS)
    asking = asyncio.create_task(house.guilds(token))
    await asyncio.sleep(0)
    house.store.available = False
    house.discord.open.set()
    with pytest.raises(SessionsUnavailable):
        await asking
    await house.settle()
    house.store.available = True
    assert await house.guilds(token) == (HERE,)


async def test_ending_needs_the_store(house: House) -> None:
    """What cannot be ended everywhere is not said to be ended."""
    token = await house.log_in()
    await house.one.get(token)
    house.store.available = False
    with pytest.raises(SessionsUnavailable):
        await house.one.end(token)
    with pytest.raises(SessionsUnavailable):
        await house.one.end_everywhere(1)
    assert await house.one.get(token) is not None


async def test_memory_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are remembered."""
    monkeypatch.setattr(module, "MAX_REMEMBERED", 10)
    small = house.replica()
    tokens = [await house.log_in(user_id) for user_id in range(1, 21)]
    for token in tokens:
        await small.get(token)
    assert len(small._remembered) == 10
    house.store.available = False
    assert await small.get(tokens[-1]) is not None
    with pytest.raises(SessionsUnavailable):
        await small.get(tokens[0])


async def test_a_week_is_the_end(house: House) -> None:
    """Whatever Discord and the browser do."""
    token = await house.log_in()
    for _ in range(SESSION_MS // (IDLE_MS - 1)):
        assert await house.one.get(token) is not None
        house.clock.advance(IDLE_MS - 1)
        await house.settle()
    assert await house.one.get(token) is not None
    house.clock.advance(IDLE_MS)
    assert await house.one.get(token) is None


async def test_a_bug_in_the_upkeep_breaks_no_request(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to the log, and the list there is is shown."""
    token = await house.log_in()

    async def broken(access_token: str) -> tuple[SessionGuild, ...]:
        del access_token
        raise ZeroDivisionError

    monkeypatch.setattr(house.discord, "guilds", broken)
    house.clock.advance(SHOWN_MS)
    assert await house.guilds(token) == (HERE,)
    await house.settle()


async def test_a_code_that_is_refused_is_no_identity(house: House) -> None:
    """The twin is as strict as Discord."""
    with pytest.raises(LoginFailed):
        await house.discord.identify("code", "verifier")
