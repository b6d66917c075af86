"""Streams of hosts on one side, sockets on the other: each event once, in order, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.fan_out import PROBE, Item
from actors.guild import MAX_REPLAY_BYTES
from actors.routing import GuildDirectory
from domain.errors import HostUnreachable, NotOwner, StoreUnavailable, TooManySockets
from domain.protocol import events_frame
from serve_app import frame, host_links
from serve_app import hub as module
from serve_app.hub import Hub
from serve_app.pacing import Pace
from serve_app.socket import MAX_QUEUED_BYTES
from tests.serve_app.scripted_host import (
    GUILD,
    Browser,
    ScriptedHost,
    ScriptedRouting,
    frame_of,
    item,
    member_of,
    until,
)


class HubUnderTest:
    """A hub with two hosts, of which the first owns every guild."""

    def __init__(self) -> None:
        self.host, self.other = ScriptedHost(), ScriptedHost()
        self.routing = ScriptedRouting({"h0": self.host, "h1": self.other}, "h0")
        self.hub: Hub
        self.used_s = 0.0
        """How long everything took so far: nothing takes any time, so the relay never rests."""
        self.browsers: list[Browser] = []
        self.replay_bytes = 16 * MAX_REPLAY_BYTES

    async def start(self) -> HubUnderTest:
        directory = GuildDirectory(self.routing)
        await directory.start()
        self.hub = Hub(directory, self, Pace(used_s=lambda: self.used_s))
        await self.hub.start()
        await until(lambda: self.host.streams and self.other.streams)
        return self

    def reserve_replay(self, user_id: int, size: int) -> bool:
        del user_id
        if size > self.replay_bytes:
            return False
        self.replay_bytes -= size
        return True

    def return_replay(self, user_id: int, unused: int) -> None:
        del user_id
        self.replay_bytes += unused

    def browser(self) -> Browser:
        browser = Browser()
        self.browsers.append(browser)
        self.hub.enter(browser.socket)
        return browser

    async def following(self, offset: int = 0) -> Browser:
        """Return a browser that follows the guild from an offset on."""
        browser = self.browser()
        number = len(self.host.calls) + 1
        self.hub.subscribe(browser.socket, member_of(), None)
        (await self.host.call(number)).answer(offset)
        await browser.frame(1)
        return browser

    async def stop(self) -> None:
        await self.hub.stop()
        assert not self.hub._tasks


@pytest.fixture(autouse=True, scope="module")
def at_once() -> Iterator[None]:
    """Let a broken stream be tried again without a pause."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_links, "FIRST_RETRY_S", 0)
        patch.setattr(host_links, "LONGEST_RETRY_S", 0)
        yield


@pytest.fixture
async def relay() -> AsyncIterator[HubUnderTest]:
    relay = await HubUnderTest().start()
    yield relay
    await relay.stop()


async def settled(relay: HubUnderTest) -> None:
    await until(lambda: not relay.hub._tasks)


# -- order ----------------------------------------------------------------------------------------


async def test_frames_before_the_answer_wait_for_it(relay: HubUnderTest) -> None:
    """What the answer covers is not shown again, what lies behind it comes after it."""
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), None)
    call = await relay.host.call(1)
    relay.host.feed(item(1), item(2))
    relay.host.feed(item(3))
    await until(lambda: all(queue.empty() for queue in relay.host.streams.values()))
    assert browser.frames == []
    call.answer(2)
    await browser.frame(2)
    assert browser.frames[0] == {
        "op": "subscribed",
        "guild_id": str(GUILD),
        "epoch": 1,
        "offset": 2,
        "recovered": True,
    }
    assert browser.offsets == [3]


async def test_frames_after_the_answer_come_once(relay: HubUnderTest) -> None:
    """A frame that the answer overtook is dropped, later ones go straight on."""
    browser = await relay.following(2)
    relay.host.feed(item(1), item(2), item(3))
    relay.host.feed(item(4))
    await browser.frame(3)
    assert browser.offsets == [3, 4]


async def test_what_comes_together_is_written_together(
    relay: HubUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One write a socket for all of a list, up to a size; who already has some of it gets the rest."""
    early, late = await relay.following(0), await relay.following(2)
    writes, items = early.wire.writes, [item(offset) for offset in range(1, 6)]
    monkeypatch.setattr(frame, "MAX_JOINED_BYTES", 3 * len(items[0].events[0]))
    relay.host.feed(*items)
    await until(lambda: late.offsets == [3, 4, 5])
    assert early.offsets == [1, 2, 3, 4, 5]
    assert early.wire.writes - writes == 2
    sent = [frame_of(*items[:3]), frame_of(*items[3:]), frame_of(items[2]), frame_of(*items[3:])]
    assert (relay.hub.frames, relay.hub.bytes) == (4, sum(map(len, sent)))


async def test_what_comes_while_a_relay_rests_is_written_together(relay: HubUnderTest) -> None:
    """An event that comes alone is written at once; what follows a long write waits for the end of a rest."""
    browser = await relay.following(0)
    write = browser.wire.write

    def write_slowly(frame: Any) -> None:
        relay.used_s += 0.02
        write(frame)

    browser.wire.write = write_slowly  # type: ignore[method-assign]
    [listener_id] = relay.host.streams
    relay.hub.deliver(listener_id, [item(1)])
    assert browser.offsets == [1]
    relay.hub.deliver(listener_id, [item(2), item(3)])
    relay.hub.deliver(listener_id, [item(4)])
    assert browser.offsets == [1]
    await until(lambda: len(browser.offsets) == 4)
    together = [[event["offset"] for event in frame["events"]] for frame in browser.frames[1:]]
    assert together == [[1], [2, 3, 4]]
    await until(lambda: relay.hub._rest is None)
    relay.hub.deliver(listener_id, [item(5)])
    assert browser.offsets == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("overtaken", [False, True])
async def test_frames_of_an_ended_activation_are_dropped(relay: HubUnderTest, overtaken: bool) -> None:
    """What the guild said before it slept is no part of what follows, whatever its offset is."""
    browser = await relay.following(7)
    relay.hub.unsubscribe(browser.socket, GUILD)
    await settled(relay)
    relay.hub.subscribe(browser.socket, member_of(), (1, 7))
    call = await relay.host.call(2)
    late = [item(8), item(9)]
    if not overtaken:
        relay.host.feed(*late)
        await until(lambda: all(queue.empty() for queue in relay.host.streams.values()))
    call.answer(0, epoch=2, recovered=False)
    await browser.frame(2)
    if overtaken:
        relay.host.feed(*late)
    relay.host.feed(item(1, epoch=2))
    assert (await browser.frame(3))["epoch"] == 2
    relay.host.feed(item(2, epoch=2))
    await browser.frame(4)
    assert browser.offsets == [1, 2]


async def test_a_replay_comes_between_the_answer_and_the_stream(relay: HubUnderTest) -> None:
    """A browser that comes back gets what it missed, then what is new."""
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), (1, 0))
    call = await relay.host.call(1)
    assert call.position == (1, 0)
    relay.host.feed(item(2), item(3))
    call.answer(2, replay=frame_of(item(1), item(2)))
    await browser.frame(3)
    assert browser.ops == ["subscribed", "events", "events"]
    assert browser.offsets == [1, 2, 3]


class Story:
    """A guild whose events are numbered from 1 on, and one browser that follows it from the start.

    The host publishes to whoever may be registered, remembers all, and answers when it is told to.
    """

    def __init__(self, relay: HubUnderTest) -> None:
        self.relay, self.browser = relay, relay.browser()
        self.offset = self.answered = 0
        self.subscribe()

    def subscribe(self) -> None:
        self.relay.hub.subscribe(self.browser.socket, member_of(), (1, max([0, *self.browser.offsets])))

    def happen(self) -> None:
        self.offset += 1
        self.relay.host.feed(item(self.offset))

    def answer(self) -> None:
        if self.answered == len(self.relay.host.calls):
            return
        call = self.relay.host.calls[self.answered]
        self.answered += 1
        assert call.position is not None
        missed = range(call.position[1] + 1, self.offset + 1)
        events = [b'{"offset":%d}' % number for number in missed]
        call.answer(self.offset, replay=events_frame(GUILD, 1, events) if events else b"")

    async def tell(self, step: str) -> None:
        match step:
            case "event":
                self.happen()
            case "answer":
                self.answer()
            case "break":
                self.relay.host.break_stream()
            case "again":
                self.subscribe()
            case _:
                await asyncio.sleep(0)

    async def end(self) -> None:
        """Let one more event happen and all that is under way come to its end."""
        self.happen()
        async with asyncio.timeout(5):
            while self.relay.hub._tasks or self.offset not in self.browser.offsets:
                self.answer()
                await asyncio.sleep(0)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.sampled_from(["event", "turn", "turn", "turn", "answer", "break", "again"])))
async def test_every_event_comes_once_and_in_order(steps: list[str]) -> None:
    """However frames, answers, breaks and new subscribes interleave, nothing is lost or out of order."""
    relay = await HubUnderTest().start()
    story = Story(relay)
    for step in steps:
        await story.tell(step)
    await story.end()
    offsets = story.browser.offsets
    first_seen = list(dict.fromkeys(offsets))
    assert first_seen == list(range(1, story.offset + 1))
    if "again" not in steps:  # only who subscribes anew from an old position is told something twice
        assert offsets == first_seen
    await relay.stop()


# -- hosts that break, move and refuse ---------------------------------------------------------------


@pytest.mark.parametrize("problem", [None, HostUnreachable(), RuntimeError("a bug of the host's")])
@pytest.mark.parametrize("recovered", [True, False])
async def test_a_broken_stream_is_taken_up_again(
    relay: HubUnderTest, problem: Exception | None, recovered: bool
) -> None:
    """Every socket asks anew from how far it came, and its browser learns whether something is missing."""
    browser = await relay.following(2)
    relay.host.feed(item(3))
    await browser.frame(2)
    [first] = relay.host.streams
    relay.host.break_stream(problem)
    call = await relay.host.call(2)
    assert call.position == (1, 3)
    assert call.relay_id != first
    epoch = 1 if recovered else 2
    relay.host.feed(item(4, epoch=epoch), item(9, epoch=epoch))
    call.answer(8, epoch=epoch, recovered=recovered)
    await browser.frame(4)
    assert browser.frames[2]["recovered"] is recovered
    assert browser.offsets == [3, 9]


async def test_an_answer_of_a_stream_that_is_over_is_none(relay: HubUnderTest) -> None:
    """A registration goes with its stream: the socket is registered on the next one, and answered once."""
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), (1, 5))
    first = await relay.host.call(1)
    [old] = relay.host.streams
    relay.host.break_stream()
    await until(lambda: relay.host.streams and old not in relay.host.streams)
    first.answer(7)
    second = await relay.host.call(2)
    assert second.position == (1, 5)
    second.answer(9)
    await settled(relay)
    assert [frame["offset"] for frame in browser.frames] == [9]
    assert len(relay.host.registered) == 1


async def test_a_guild_that_moved_is_found_again(relay: HubUnderTest) -> None:
    """A host that says "not mine" makes the relay ask for the placement, then the owner for the guild."""
    browser = relay.browser()
    relay.routing.move("h1")
    relay.hub.subscribe(browser.socket, member_of(), None)
    (await relay.host.call(1)).fail(NotOwner())
    (await relay.other.call(1)).answer(0)
    assert (await browser.frame(1))["op"] == "subscribed"
    relay.other.feed(item(1))
    await browser.frame(2)
    relay.host.feed(item(2))  # whatever the former owner still says
    await until(lambda: all(queue.empty() for queue in relay.host.streams.values()))
    relay.other.feed(item(3))
    await browser.frame(3)
    assert browser.offsets == [1, 3]


async def test_sockets_follow_a_guild_whose_move_another_one_noticed(relay: HubUnderTest) -> None:
    """A host that gives up a guild ends its streams; who was on them is asked for at the new owner."""
    browser = await relay.following()
    relay.routing.move("h1")
    await relay.hub._directory.refresh(1)
    relay.host.break_stream()
    call = await relay.other.call(1)
    call.answer(0)
    relay.other.feed(item(1))
    await until(lambda: browser.offsets == [1])


async def test_a_guild_that_nobody_has_is_away(relay: HubUnderTest) -> None:
    """After a few "not mine" the browser is told, and the socket lives on."""
    browser = relay.browser()
    relay.host.at_once = lambda call: call.fail(NotOwner())
    relay.hub.subscribe(browser.socket, member_of(), None)
    assert (await browser.frame(1))["code"] == "unavailable"
    await settled(relay)
    assert len(relay.host.calls) == module.WATCH_TRIES
    assert not relay.hub._by_guild
    assert browser.socket.closed_with is None


async def test_a_director_that_is_away_is_told(relay: HubUnderTest) -> None:
    """A placement that cannot be refreshed makes an error frame and no broken socket."""
    browser = relay.browser()
    relay.routing.problem = HostUnreachable()
    relay.host.at_once = lambda call: call.fail(NotOwner())
    relay.hub.subscribe(browser.socket, member_of(), None)
    assert (await browser.frame(1))["code"] == "unavailable"


async def test_a_host_that_dies_under_the_question_is_asked_again(relay: HubUnderTest) -> None:
    """A call that may have been taken is made again; a host that stays away is told, and told to forget."""
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), None)
    (await relay.host.call(1)).fail(HostUnreachable())
    (await relay.host.call(2)).answer(7)
    assert (await browser.frame(1))["offset"] == 7
    relay.host.at_once = lambda call: call.fail(HostUnreachable())
    other = relay.browser()
    relay.hub.subscribe(other.socket, member_of(), None)
    assert (await other.frame(1))["code"] == "unavailable"
    await settled(relay)
    asked = [what for what, socket_id, _ in relay.host.said if socket_id == other.socket.socket_id]
    assert asked == ["watch", "watch", "watch", "unwatch"]


@pytest.mark.parametrize("problem", [StoreUnavailable(), RuntimeError("a bug")])
async def test_a_host_that_does_not_answer_is_told(relay: HubUnderTest, problem: Exception) -> None:
    """The browser gets an error frame; the host, which may have taken the call, is told to forget."""
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), None)
    (await relay.host.call(1)).fail(problem)
    frame = await browser.frame(1)
    assert (frame["op"], frame["code"], frame["guild_id"]) == ("error", "unavailable", str(GUILD))
    await settled(relay)
    assert [what for what, _, _ in relay.host.said] == ["watch", "unwatch"]
    assert not relay.hub._by_guild
    assert relay.hub.guilds_of(browser.socket) == set()


async def test_a_late_answer_is_taken_back(relay: HubUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that answers after its time has registered a socket that gave up: it is told so."""
    monkeypatch.setattr(module, "ANSWER_WITHIN_S", 0.001)
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), None)
    call = await relay.host.call(1)
    assert (await browser.frame(1))["code"] == "unavailable"
    call.answer(0)
    await settled(relay)
    assert relay.host.said[-1] == ("unwatch", browser.socket.socket_id, GUILD)
    assert not relay.host.registered


async def test_a_stream_that_stays_away_closes_who_believes_to_be_live(
    relay: HubUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser that was answered comes back (1012); one that was not gets an error frame."""
    live, new = await relay.following(), relay.browser()
    monkeypatch.setattr(module, "ANSWER_WITHIN_S", 0.001)
    relay.host.reachable = False
    relay.host.break_stream()
    assert await live.close_code() == 1012
    relay.hub.subscribe(new.socket, member_of(), None)
    assert (await new.frame(1))["code"] == "unavailable"


async def test_one_window_too_many_is_closed(relay: HubUnderTest) -> None:
    """4009, and nothing of the socket stays."""
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), None)
    for number in (1, 2):  # the second after relays that are gone have made room, of which there are none
        (await relay.host.call(number)).fail(TooManySockets())
    assert await browser.close_code() == 4009
    assert relay.host.evictions == [(GUILD, browser.user_id)]
    await settled(relay)
    assert not relay.hub._by_guild


async def test_a_relay_that_is_asked_says_that_it_is_there(relay: HubUnderTest) -> None:
    """On the stream that asks, and its browsers are sent nothing of it."""
    browser = await relay.following()
    sent = len(browser.frames)
    relay.host.feed(PROBE)
    await until(lambda: relay.host.proofs)
    assert relay.host.proofs == list(relay.host.streams)
    assert len(browser.frames) == sent


async def test_what_waits_for_an_answer_is_bounded(relay: HubUnderTest) -> None:
    """More than the socket would queue closes it with 4008: its browser comes back and resumes."""
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), None)
    await relay.host.call(1)
    relay.host.feed(
        *[Item(GUILD, 1, number, [b"x" * (MAX_QUEUED_BYTES // 4 - 100)]) for number in range(1, 5)]
    )
    await until(lambda: all(queue.empty() for queue in relay.host.streams.values()))
    assert browser.closed is None
    relay.host.feed(Item(GUILD, 1, 5, [b"x" * 200]))
    assert await browser.close_code() == 4008


# -- sockets that come and go ------------------------------------------------------------------------


async def test_leaving_while_the_call_is_under_way_leaves_nothing(relay: HubUnderTest) -> None:
    """The host is told to forget only after it registered the socket, never before."""
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), None)
    call = await relay.host.call(1)
    relay.hub.leave(browser.socket)
    await asyncio.sleep(0)
    assert [what for what, _, _ in relay.host.said] == ["watch"]
    call.answer(0)
    await settled(relay)
    assert [what for what, _, _ in relay.host.said] == ["watch", "unwatch"]
    assert not relay.host.registered
    assert not relay.hub._by_guild
    assert not relay.hub._by_socket
    assert browser.frames == []


async def test_unsubscribing_while_subscribing_has_no_answer(relay: HubUnderTest) -> None:
    """An answer that nobody waits for any more is not shown, and the host forgets the socket."""
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), None)
    call = await relay.host.call(1)
    relay.hub.unsubscribe(browser.socket, GUILD)
    assert relay.hub.guilds_of(browser.socket) == set()
    call.answer(0)
    await settled(relay)
    assert browser.frames == []
    assert not relay.host.registered
    assert not relay.hub._by_guild


async def test_a_subscribe_after_an_unsubscribe_is_not_overtaken(relay: HubUnderTest) -> None:
    """The host forgets the old registration before it makes the new one, never after."""
    browser = await relay.following()
    relay.host.unwatching.clear()
    relay.hub.unsubscribe(browser.socket, GUILD)
    await until(lambda: relay.host.said[-1][0] == "unwatch")
    relay.hub.subscribe(browser.socket, member_of(), (1, 0))
    await asyncio.sleep(0)
    assert len(relay.host.calls) == 1
    relay.host.unwatching.set()
    (await relay.host.call(2)).answer(0)
    await settled(relay)
    assert len(relay.host.registered) == 1
    relay.host.feed(item(1))
    await until(lambda: browser.offsets == [1])


async def test_subscribing_twice_begins_anew(relay: HubUnderTest) -> None:
    """The second subscribe is answered from its own position, and events still come once."""
    browser = await relay.following(5)
    relay.hub.subscribe(browser.socket, member_of(), (1, 4))
    call = await relay.host.call(2)
    assert call.position == (1, 4)
    call.answer(5, replay=frame_of(item(5)))
    await browser.frame(3)
    relay.host.feed(item(6))
    await browser.frame(4)
    assert browser.offsets == [5, 6]
    relay.hub.unsubscribe(browser.socket, GUILD)
    await settled(relay)
    assert not relay.host.registered


async def test_a_thousand_subscribes_are_one_call_at_a_time(relay: HubUnderTest) -> None:
    """Whoever asks without waiting makes no pile of calls and tasks, and each time has an answer.

    Only the newest is told that it goes on from its position: what the others missed does not follow.
    """
    browser = relay.browser()
    for _ in range(1_000):
        relay.hub.subscribe(browser.socket, member_of(), None)
    call = await relay.host.call(1)
    for _ in range(1_000):
        relay.hub.subscribe(browser.socket, member_of(), None)
    assert len(relay.hub._tasks) <= 2
    call.answer(0)
    (await relay.host.call(2)).answer(1)
    await settled(relay)
    assert len(relay.host.calls) == 2
    assert {(frame["op"], frame["offset"]) for frame in browser.frames} == {("subscribed", 1)}
    assert [frame["recovered"] for frame in browser.frames] == [False] * 1_999 + [True]


async def test_two_sockets_share_a_guild(relay: HubUnderTest) -> None:
    """Both get the same events; when one goes, the other stays."""
    one, two = await relay.following(), await relay.following()
    relay.host.feed(item(1))
    await one.frame(2)
    await two.frame(2)
    relay.hub.leave(one.socket)
    await settled(relay)
    relay.host.feed(item(2))
    await two.frame(3)
    assert (one.offsets, two.offsets) == ([1], [1, 2])
    assert {socket_id for _, socket_id, _ in relay.host.registered} == {two.socket.socket_id}


async def test_letting_go_of_what_one_does_not_follow_is_no_error(relay: HubUnderTest) -> None:
    """Neither an unknown guild nor a second time does anything."""
    browser = await relay.following()
    relay.hub.unsubscribe(browser.socket, GUILD + 1)
    relay.hub.unsubscribe(browser.socket, GUILD)
    relay.hub.unsubscribe(browser.socket, GUILD)
    await settled(relay)
    relay.hub.unsubscribe(browser.socket, GUILD)
    assert [what for what, _, _ in relay.host.said] == ["watch", "unwatch"]


async def test_stopping_sends_every_browser_elsewhere(relay: HubUnderTest) -> None:
    """1012 to those who follow, to those who wait, to those who do neither, and to who comes too late."""
    following, waiting, idle = await relay.following(), relay.browser(), relay.browser()
    relay.hub.subscribe(waiting.socket, member_of(), None)
    await relay.host.call(2)
    await relay.hub.stop()
    late = relay.browser()
    for browser in (following, waiting, idle, late):
        assert await browser.close_code() == 1012
        relay.hub.leave(browser.socket)
    assert not relay.hub._tasks
    assert not relay.host.streams


async def test_only_streams_that_stand_are_counted(relay: HubUnderTest) -> None:
    """A host that cannot be reached is not listened to, though its link is kept."""
    await until(lambda: relay.hub.hosts == 2)
    relay.host.reachable = False
    relay.host.break_stream()
    await until(lambda: relay.hub.hosts == 1)
    relay.host.reachable = True
    await until(lambda: relay.hub.hosts == 2)


async def test_every_subscribe_is_told_that_the_host_is_away(relay: HubUnderTest) -> None:
    """As many errors as questions."""
    browser = relay.browser()
    for _ in range(3):
        relay.hub.subscribe(browser.socket, member_of(), None)
    (await relay.host.call(1)).fail(StoreUnavailable())
    await settled(relay)
    assert [frame["code"] for frame in browser.frames] == ["unavailable"] * 3


async def test_who_lets_go_before_the_answer_is_owed_it(relay: HubUnderTest) -> None:
    """So many subscribes are left without one, each counted once."""
    browser = relay.browser()
    relay.hub.subscribe(browser.socket, member_of(), None)
    relay.hub.subscribe(browser.socket, member_of(), None)
    call = await relay.host.call(1)
    assert relay.hub.unsubscribe(browser.socket, GUILD) == 2
    assert relay.hub.unsubscribe(browser.socket, GUILD) == 0
    call.answer(0)
    await settled(relay)
    assert browser.frames == []


async def test_who_had_too_much_replayed_is_asked_for_without_a_position(relay: HubUnderTest) -> None:
    """The host is not made to send what may not be sent, and the browser reads its state anew."""
    relay.replay_bytes = MAX_REPLAY_BYTES + 10
    first, second, third = (relay.browser() for _ in range(3))
    relay.hub.subscribe(first.socket, member_of(), (1, 4))
    call = await relay.host.call(1)
    relay.hub.subscribe(second.socket, member_of(), (1, 4))
    withheld = await relay.host.call(2)
    assert (call.position, withheld.position) == ((1, 4), None)
    withheld.answer(5)
    assert (await second.frame(1))["recovered"] is False
    replay = frame_of(item(5))
    call.answer(5, replay=replay)
    assert [(await first.frame(1))["recovered"], first.offsets] == [True, [5]]
    await settled(relay)
    assert relay.replay_bytes == MAX_REPLAY_BYTES + 10 - len(replay)
    relay.replay_bytes += len(replay)
    relay.hub.subscribe(third.socket, member_of(), (1, 4))
    (await relay.host.call(3)).fail(StoreUnavailable())
    await settled(relay)
    assert relay.replay_bytes == MAX_REPLAY_BYTES + 10
