"""The relay as an ASGI application, driven by hand as a server would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from actors.fan_out import FanOut, Item
from adapters.memory import (
    MemoryAuditLog,
    MemoryClock,
    MemoryCounts,
    MemoryDatabase,
    MemoryEndedSessions,
    MemoryMembers,
    MemoryOpenSockets,
    MemoryRateLimiter,
    MemorySessions,
    SharedSockets,
)
from domain.authority import GuildAuthority, MemberAuthority
from domain.errors import DiscordUnavailable, HostUnreachable, RolesUnavailable, StoreUnavailable
from domain.permissions import ADMINISTRATOR
from domain.protocol import MAX_SUBSCRIPTIONS
from domain.rates import Rates
from domain.replica_counts import RelayCounts
from domain.roles import Assign, Mapping, Member, Revoke
from domain.sessions import SESSION_MS
from domain.socket_limits import Allowance, SocketLimits
from serve_app import authority_watch, doorkeeper, idle_sockets
from serve_app import socket as socket_module
from serve_app.ports import RelayPorts, WebSettings
from serve_app.relay import FRESH_S, Relay
from serve_app.transport import EXCESS, EXTENSION
from tests.memory_rbac import memory_rbac
from tests.serve_app.scripted_host import (
    GUILD,
    RecordingWire,
    ScriptedHost,
    ScriptedRouting,
    frame_of,
    item,
    session_of,
    until,
)
from tests.serve_app.web import GENEROUS, PLAIN, membership
from tests.waiting import eventually

OWNER = Member(99, GUILD, owns=True, discord_permissions=0)


class Connection(RecordingWire):
    """A browser's connection, from the server's side: it is found in the scope, as a wire."""

    def __init__(
        self,
        relay: Relay,
        headers: list[tuple[bytes, bytes]],
        *,
        address: str = "127.0.0.1",
        by_transport: bool = True,
    ) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []
        self.begun = False
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._said.put_nowait({"type": "websocket.connect"})
        scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": headers}
        scope |= {"client": (address, 1), "extensions": {EXTENSION: self} if by_transport else {}}
        self.task = asyncio.create_task(relay(scope, self._said.get, self._send))

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def begin(self) -> None:
        assert self.sent == [{"type": "websocket.accept"}]
        self.begun = True

    def close(self, code: int, reason: str) -> None:
        assert self.begun
        super().close(code, reason)
        self._said.put_nowait({"type": "websocket.disconnect", "code": code})

    def say(self, **message: Any) -> None:
        self.say_raw(text=json.dumps(message))

    def say_raw(self, **message: Any) -> None:
        self._said.put_nowait({"type": "websocket.receive", **message})

    def subscribe(self, guild_id: int = GUILD, **position: int) -> None:
        self.say(op="subscribe", guild_id=str(guild_id), **position)

    def leave(self) -> None:
        self._said.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def frame(self, number: int) -> dict[str, Any]:
        """Return the n-th frame, counted from 1, once it came."""
        await until(lambda: len(self.frames) >= number)
        return self.frames[number - 1]

    async def end(self) -> tuple[int, str]:
        """Return the code and the reason once the application has ended."""
        await asyncio.wait_for(self.task, 5)
        if self.closed is not None:
            return self.closed
        assert self.sent[-1]["type"] == "websocket.close"
        return self.sent[-1]["code"], self.sent[-1]["reason"]


class RelayUnderTest:
    """A relay on the twins, with one scripted host."""

    def __init__(self, limits: SocketLimits | None = None) -> None:
        self.clock = MemoryClock()
        self.database = MemoryDatabase(self.clock)
        self.members = MemoryMembers()
        self.rbac = memory_rbac(self.database, self.members, self.monotonic_s)
        self.sessions = MemorySessions(self.clock)
        self.ended = MemoryEndedSessions(self.sessions)
        self.counts = MemoryCounts(self.clock)
        self.limiter = MemoryRateLimiter(GENEROUS, self.clock)
        self.shared = SharedSockets()
        self.limits = limits or SocketLimits()
        self.host = ScriptedHost()
        self.closed = 0
        self.relay = Relay(self._open, lambda: ScriptedRouting({"h0": self.host}, "h0"))
        self.lifespan: list[str] = []
        self._says: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._life: asyncio.Task[None]
        self._connections: list[Connection] = []

    async def _open(self) -> RelayPorts:
        settings = WebSettings(PLAIN, None, "")  # type: ignore[arg-type]
        audit = MemoryAuditLog(self.database)
        return RelayPorts(
            settings=settings,
            sessions=self.sessions,
            roles=self.rbac,
            audit=audit,
            close=self._close,
            limiter=self.limiter,
            ended=self.ended,
            counts=self.counts,
            replica="relay",
            open_sockets=MemoryOpenSockets(self.shared, "relay"),
            socket_limits=self.limits,
            monotonic_s=self.monotonic_s,
            now_ms=self.clock,
        )

    def monotonic_s(self) -> float:
        return self.clock() / 1000

    async def _close(self) -> None:
        self.closed += 1

    async def start(self) -> RelayUnderTest:
        async def heard(message: Any) -> None:
            self.lifespan.append(message["type"])

        self._says.put_nowait({"type": "lifespan.startup"})
        self._life = asyncio.create_task(self.relay({"type": "lifespan"}, self._says.get, heard))
        await until(lambda: self.lifespan and self.host.streams)
        return self

    async def stop(self) -> None:
        self._says.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait_for(self._life, 5)

    async def end(self) -> None:
        if not self._life.done():
            await self.stop()
        for connection in self._connections:
            await asyncio.wait_for(asyncio.gather(connection.task, return_exceptions=True), 5)

    async def token(self, *guild_ids: int, user_id: int = 1) -> str:
        guilds = [membership(guild_id, owns=True) for guild_id in guild_ids]
        return await self.sessions.create(session_of(*guilds, user_id=user_id))

    def connect(self, *headers: tuple[bytes, bytes], **how: Any) -> Connection:
        connection = Connection(self.relay, list(headers), **how)
        self._connections.append(connection)
        return connection

    async def owner(self, *guild_ids: int, user_id: int = 1) -> Connection:
        """Connect somebody who owns these guilds."""
        token = await self.token(*(guild_ids or (GUILD,)), user_id=user_id)
        return self.connect((b"cookie", f"guildhall={token}".encode()), (b"origin", PLAIN.encode()))

    async def is_free(self) -> None:
        """Wait until nothing is held for anybody."""
        hub = self.relay._hub
        await until(lambda: not (hub._tasks or hub._by_guild or hub._by_socket or self.host.registered))
        await until(lambda: not (self.relay._taken._addresses or any(self.shared.by_user.values())))


@pytest.fixture
async def relay() -> AsyncIterator[RelayUnderTest]:
    relay = await RelayUnderTest().start()
    yield relay
    await relay.end()


# -- getting in -----------------------------------------------------------------------------------


async def test_a_relay_lives_as_long_as_its_server(relay: RelayUnderTest) -> None:
    """It listens to its hosts before it says that it started, and has let all go when it says it ended."""
    assert relay.lifespan == ["lifespan.startup.complete"]
    connection = await relay.owner()
    connection.subscribe()
    (await relay.host.call(1)).answer(0)
    await connection.frame(1)
    await relay.stop()
    assert relay.lifespan == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (relay.closed, relay.host.streams) == (1, {})
    assert (await connection.end())[0] == 1012


async def test_plain_http_is_told_to_upgrade(relay: RelayUnderTest) -> None:
    """426, with the protocol to change to."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await relay.relay({"type": "http", "headers": []}, asyncio.Queue().get, send)
    assert sent[0]["status"] == 426
    assert (b"upgrade", b"websocket") in sent[0]["headers"]


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", PLAIN.encode() + b".evil", b"", b"\xff"]
)
async def test_another_sites_page_gets_no_socket(relay: RelayUnderTest, origin: bytes) -> None:
    """It is refused before the socket is accepted, whatever cookie comes with it."""
    cookie = f"guildhall={await relay.token(GUILD)}".encode()
    connection = relay.connect((b"cookie", cookie), (b"origin", origin))
    await asyncio.wait_for(connection.task, 5)
    assert connection.sent == [{"type": "websocket.close"}]
    assert not connection.begun


async def test_a_program_without_an_origin_gets_a_socket(relay: RelayUnderTest) -> None:
    """Only browsers send one, and only they carry somebody else's cookie."""
    connection = relay.connect((b"cookie", f"guildhall={await relay.token(GUILD)}".encode()))
    connection.subscribe()
    (await relay.host.call(1)).answer(0)
    assert (await connection.frame(1))["op"] == "subscribed"
    connection.leave()


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"cookie", b"guildhall=made-up"),),
        ((b"cookie", b"guildhall="),),
        ((b"cookie", b'guildhall="\\'),),
        ((b"cookie", b"\xff\x00;=;;"),),
        ((b"cookie", b"other=1"), (b"cookie", b"guildhall=made-up")),
    ],
)
async def test_without_a_session_one_is_told_to_log_in(
    relay: RelayUnderTest, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    """4001 on a socket that was accepted, for a browser is told no code on another."""
    connection = relay.connect(*headers)
    assert await connection.end() == (4001, "Log in.")
    assert connection.sent[0] == {"type": "websocket.accept"}


async def test_an_ended_session_opens_nothing(relay: RelayUnderTest) -> None:
    """Neither one that was logged out of nor one that is too old."""
    tokens = [await relay.token(GUILD), await relay.token(GUILD)]
    await relay.sessions.end(tokens[0])
    assert (await relay.connect((b"cookie", f"guildhall={tokens[0]}".encode())).end())[0] == 4001
    relay.clock.advance(SESSION_MS)
    assert (await relay.connect((b"cookie", f"guildhall={tokens[1]}".encode())).end())[0] == 4001


async def test_sessions_that_are_away_log_nobody_out(relay: RelayUnderTest) -> None:
    """1012 says: come back. 4001 would end the page's session."""
    token = await relay.token(GUILD)
    relay.sessions.available = False
    code, _ = await relay.connect((b"cookie", f"guildhall={token}".encode())).end()
    assert code == 1012


@pytest.mark.parametrize("neighbour", ['theme={"dark":true}', "a,b=1", "x", "[]=1", 'q="'])
async def test_a_neighbours_odd_cookie_does_no_harm(relay: RelayUnderTest, neighbour: str) -> None:
    """What other programs of this host keep is read over, as the HTTP side does."""
    token = await relay.token(GUILD)
    connection = relay.connect((b"cookie", f"{neighbour}; guildhall={token}; {neighbour}".encode()))
    connection.say(op="unsubscribe", guild_id="1")
    assert (await connection.frame(1))["op"] == "unsubscribed"
    connection.leave()


# -- what is said ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"text": ""},
        {"text": "hello"},
        {"text": "{}"},
        {"text": '{"op":"dance"}'},
        {"text": '{"op":"subscribe","guild_id":40}'},
        {"text": '{"op":"subscribe","guild_id":"40","epoch":1}'},
        {"text": '{"op":"subscribe","guild_id":"0"}'},
        {"text": '{"op":"subscribe","guild_id":"40","%s":1}' % ("\N{SNOWMAN}" * 100)},
        {"text": "[" * 3_000},
        {"text": " " * 5_000},
        {"bytes": b"\xff\xfe"},
        {"bytes": b""},
        {},
    ],
)
async def test_nonsense_closes_the_socket(relay: RelayUnderTest, message: dict[str, Any]) -> None:
    """4010, with a reason that fits into the frame."""
    connection = await relay.owner()
    connection.say_raw(**message)
    code, reason = await connection.end()
    assert code == 4010
    assert 0 < len(reason.encode()) <= 123
    await relay.is_free()


async def test_text_may_come_as_bytes(relay: RelayUnderTest) -> None:
    """A binary frame that holds the same JSON says the same."""
    connection = await relay.owner()
    connection.say_raw(bytes=b'{"op":"unsubscribe","guild_id":"1"}')
    assert await connection.frame(1) == {"op": "unsubscribed", "guild_id": "1"}
    connection.leave()


async def test_one_follows_resumes_and_lets_go(relay: RelayUnderTest) -> None:
    """The position travels to the host, events come, and after "unsubscribed" none does."""
    connection = await relay.owner()
    connection.subscribe(epoch=1, offset=4)
    call = await relay.host.call(1)
    assert call.position == (1, 4)
    call.answer(5, replay=frame_of(item(5)))
    relay.host.feed(item(6))
    assert (await connection.frame(3))["events"] == [{"offset": 6}]
    connection.say(op="unsubscribe", guild_id=str(GUILD))
    assert (await connection.frame(4))["op"] == "unsubscribed"
    relay.host.feed(item(7))
    await until(lambda: not relay.relay._hub._tasks)
    assert len(connection.frames) == 4
    connection.leave()
    await relay.is_free()


@pytest.mark.parametrize("guild_id", [GUILD, GUILD + 1])
async def test_watching_needs_the_permission(relay: RelayUnderTest, guild_id: int) -> None:
    """Neither a member without a role nor a stranger gets in, and no host hears of it; the socket lives.

    The denial is noted. A role that comes later is known at once.
    """
    token = await relay.sessions.create(session_of(membership(GUILD)))
    connection = relay.connect((b"cookie", f"guildhall={token}".encode()))
    connection.subscribe(guild_id)
    frame = await connection.frame(1)
    assert (frame["op"], frame["code"], frame["guild_id"]) == ("error", "not_allowed", str(guild_id))
    assert relay.host.calls == []
    await until(lambda: relay.database.audit)
    [denied] = relay.database.audit
    assert (denied.entry.guild_id, denied.entry.actor_id) == (guild_id, 1)
    assert denied.entry.details == {
        "reason": "missing_permission",
        "permission": "view_violations",
        "method": "subscribe",
        "route": "/ws",
        "count": 1,
    }
    await relay.rbac.change(Assign(1, "moderator"), OWNER)
    await until(lambda: relay.relay._gate.watch.changes)
    connection.subscribe(GUILD)
    (await relay.host.call(1)).answer(0)
    assert (await connection.frame(2))["op"] == "subscribed"
    connection.leave()


@pytest.mark.parametrize("away", ["database", "discord"])
async def test_roles_that_cannot_be_read_are_no_permission(relay: RelayUnderTest, away: str) -> None:
    """The answer is an error frame, and asking again later helps; it is noted nowhere."""

    async def busy(*_: object) -> None:
        raise DiscordUnavailable

    relay.database.role_mappings[GUILD, GUILD] = Mapping(GUILD, "viewer", 1, 0)
    relay.members.given[GUILD, 1] = frozenset()
    token = await relay.sessions.create(session_of(membership(GUILD)))
    connection = relay.connect((b"cookie", f"guildhall={token}".encode()))
    if away == "database":
        relay.database.available = False
    else:
        relay.members.before = busy
    connection.subscribe()
    assert (await connection.frame(1))["code"] == "unavailable"
    assert relay.host.calls == []
    assert relay.database.audit == []
    relay.database.available, relay.members.before = True, None
    relay.clock.advance(5_000)
    connection.subscribe()
    (await relay.host.call(1)).answer(0)
    assert (await connection.frame(2))["op"] == "subscribed"
    connection.leave()


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for wait in ("IDLE_S", "PAUSE_S", "ASK_AGAIN_S"):
        monkeypatch.setattr(doorkeeper, wait, 0.005)


async def test_who_loses_the_role_watches_no_longer(relay: RelayUnderTest) -> None:
    """They are told, and their host too; who still may, and their other guilds, go on."""
    token = await relay.sessions.create(session_of(membership(GUILD), membership(GUILD + 1, owns=True)))
    connection = relay.connect((b"cookie", f"guildhall={token}".encode()))
    relay.database.roles[GUILD, 1] = "viewer"
    relay.host.at_once = lambda call: call.answer(0)
    connection.subscribe(GUILD)
    connection.subscribe(GUILD + 1)
    await connection.frame(2)
    owners = await relay.token(GUILD, user_id=2)
    owner = relay.connect((b"cookie", f"guildhall={owners}".encode()))
    owner.subscribe(GUILD)
    await owner.frame(1)
    await relay.rbac.change(Revoke(1), OWNER)
    told = await connection.frame(3)
    assert (told["op"], told["code"], told["guild_id"]) == ("error", "not_allowed", str(GUILD))
    connection.subscribe(GUILD)  # and cannot come back on what the relay remembers of their role
    assert (await connection.frame(4))["code"] == "not_allowed"
    hub = relay.relay._hub
    await until(lambda: not hub._tasks)
    relay.host.feed(item(1), item(1, GUILD + 1))
    assert (await connection.frame(5))["guild_id"] == str(GUILD + 1)
    assert (await owner.frame(2))["guild_id"] == str(GUILD)
    assert len(connection.frames) == 5
    assert {member.guild_id for _, member in hub.watching()} == {GUILD, GUILD + 1}
    await until(lambda: relay.database.audit)
    for leaving in (connection, owner):
        leaving.leave()
    await relay.is_free()


@pytest.mark.usefixtures("looks_often")
@pytest.mark.parametrize("problem", [RolesUnavailable(), StoreUnavailable(), RuntimeError("a bug")])
async def test_who_watches_goes_on_while_roles_cannot_be_read(
    relay: RelayUnderTest, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """Nothing can be taken from them meanwhile; when it was, they are out as soon as roles can be read."""
    roles = relay.relay._ports.roles
    tries = 0

    async def away(_: object, **_wait: bool) -> Any:
        nonlocal tries
        tries += 1
        raise problem

    async def tried() -> bool:
        return tries > 2

    relay.database.roles[GUILD, 1] = "viewer"
    token = await relay.sessions.create(session_of(membership(GUILD)))
    connection = relay.connect((b"cookie", f"guildhall={token}".encode()))
    relay.host.at_once = lambda call: call.answer(0)
    connection.subscribe(GUILD)
    await connection.frame(1)
    with monkeypatch.context() as patch:
        patch.setattr(roles, "roles_of", away)
        await relay.rbac.change(Revoke(1), OWNER)
        await eventually(tried, within_s=5)
        relay.host.feed(item(1))
        assert (await connection.frame(2))["op"] == "events"
    assert (await connection.frame(3))["code"] == "not_allowed"
    connection.leave()


@pytest.mark.usefixtures("looks_often")
async def test_everybody_is_looked_at_again_in_turns(
    relay: RelayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, a look asks for so many roles at most; what was not told is found out so."""
    monkeypatch.setattr(doorkeeper, "AT_ONCE", 3)
    guild_ids = list(range(1, 9))
    relay.database.roles |= {(guild_id, 1): "viewer" for guild_id in guild_ids}
    token = await relay.sessions.create(session_of(*(membership(guild_id) for guild_id in guild_ids)))
    connection = relay.connect((b"cookie", f"guildhall={token}".encode()))
    relay.host.at_once = lambda call: call.answer(0)
    for guild_id in guild_ids:
        connection.subscribe(guild_id)
    await connection.frame(len(guild_ids))
    asked = watch_questions(relay, monkeypatch)
    relay.database.roles.clear()
    relay.clock.advance(int(doorkeeper.LOOK_AGAIN_S * 1000))
    await connection.frame(2 * len(guild_ids))
    assert {frame["guild_id"] for frame in connection.frames[8:]} == {str(one) for one in guild_ids}
    assert [len(each) for each in asked] == [3, 3, 2]
    connection.leave()
    await relay.is_free()


def watch_questions(relay: RelayUnderTest, monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """Note from here on about which guilds roles are asked for, question by question."""
    roles_of = relay.rbac.roles_of
    asked: list[set[int]] = []

    async def counted(members: Any, **wait: bool) -> Any:
        asked.append({member.guild_id for member in members})
        return await roles_of(members, **wait)

    monkeypatch.setattr(relay.rbac, "roles_of", counted)
    return asked


@pytest.mark.usefixtures("looks_often")
async def test_who_is_no_longer_in_the_server_watches_no_longer(relay: RelayUnderTest) -> None:
    """As soon as their list says so, whatever gave them their role; a list that is missing says nothing."""
    relay.host.at_once = lambda call: call.answer(0)
    relay.database.roles[GUILD, 6] = "moderator"
    connections = []
    for user_id, guild in ((5, membership(GUILD, permissions=ADMINISTRATOR)), (6, membership(GUILD))):
        token = await relay.sessions.create(session_of(guild, user_id=user_id))
        connection = relay.connect((b"cookie", f"guildhall={token}".encode()))
        connection.subscribe()
        await connection.frame(1)
        connections.append(connection)
    relay.sessions._guilds.pop(6)
    await relay.sessions.keep_guilds(5, (membership(GUILD),), relay.clock())
    relay.clock.advance(int(doorkeeper.LOOK_AGAIN_S * 1000))
    assert (await connections[0].frame(2))["code"] == "not_allowed"  # ADMINISTRATOR was all they had
    await relay.sessions.keep_guilds(6, (), relay.clock())
    relay.clock.advance(int(doorkeeper.LOOK_AGAIN_S * 1000))
    assert (await connections[1].frame(2))["code"] == "not_allowed"
    for connection in connections:
        connection.leave()
    await relay.is_free()


async def test_who_leaves_discord_is_deaf_at_once(relay: RelayUnderTest) -> None:
    """Whoever they are in the server; the counts say how late that was."""
    connection = await relay.owner()
    relay.host.at_once = lambda call: call.answer(0)
    connection.subscribe()
    await connection.frame(1)
    await relay.rbac.heard([MemberAuthority(GUILD, 1, relay.clock() - 40, None)])
    assert (await connection.frame(2))["code"] == "not_allowed"
    connection.subscribe()
    assert (await connection.frame(3))["code"] == "not_allowed"
    counts = relay.relay._counts().relay
    assert counts is not None
    assert (counts.authority_changes, counts.revocations, counts.slowest_revocation_ms) == (1, 1, 40)
    connection.leave()


async def test_who_is_told_to_be_out_waits_for_nobody_else(relay: RelayUnderTest) -> None:
    """Not for those of whom only Discord knows, though told of together; these are asked about again."""
    members = relay.rbac._members
    members._settings = msgspec.structs.replace(members._settings, answer_within_s=3_600.0)
    relay.host.at_once = lambda call: call.answer(0)
    relay.database.role_mappings[GUILD, 71] = Mapping(71, "viewer", 1, 0)
    relay.members.given[GUILD, 6] = frozenset({71})
    token = await relay.sessions.create(session_of(membership(GUILD), user_id=6))
    viewer = relay.connect((b"cookie", f"guildhall={token}".encode()))
    kicked = await relay.owner(GUILD + 1, user_id=7)
    for each, guild_id in ((viewer, GUILD), (kicked, GUILD + 1)):
        each.subscribe(guild_id)
        await each.frame(1)
    members._known.clear()  # as in the next life of the actor
    discord_answers = asyncio.Event()

    async def hangs(*_: int) -> None:
        await discord_answers.wait()

    relay.members.before = hangs
    relay.members.given.clear()
    await relay.rbac.heard(
        [GuildAuthority(GUILD, relay.clock(), 5), MemberAuthority(GUILD + 1, 7, relay.clock(), None)]
    )
    assert (await kicked.frame(2))["code"] == "not_allowed"
    await relay.rbac.heard([MemberAuthority(GUILD, 8, relay.clock(), None)])
    assert len(viewer.frames) == 1
    discord_answers.set()
    assert (await viewer.frame(2))["code"] == "not_allowed"
    for each in (viewer, kicked):
        each.leave()
    await relay.is_free()


@pytest.mark.usefixtures("looks_often")
async def test_a_yes_serves_for_ten_minutes(relay: RelayUnderTest) -> None:
    """Then whoever watches has to come back, and is told no verdict."""
    connection = await relay.owner()
    relay.host.at_once = lambda call: call.answer(0)
    connection.subscribe()
    await connection.frame(1)
    relay.database.available = False
    for offset in range(1, 5):
        relay.clock.advance(int(doorkeeper.LOOK_AGAIN_S * 1000))
        await until(lambda offset=offset: relay.relay._doorkeeper.stats().unknown >= offset)  # type: ignore[misc]
        relay.host.feed(item(offset))
        await connection.frame(1 + offset)
    relay.clock.advance(int(doorkeeper.LOOK_AGAIN_S * 1000))
    assert (await connection.end())[0] == 1012


@pytest.mark.usefixtures("looks_often")
async def test_an_rbac_that_dies_takes_nobodys_view(
    relay: RelayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who watches goes on; what changed while nothing was heard is obeyed once its next life is."""
    monkeypatch.setattr(authority_watch, "FIRST_RETRY_S", 0.005)
    connection = await relay.owner()
    relay.host.at_once = lambda call: call.answer(0)
    relay.database.roles[GUILD, 7] = "viewer"
    token = await relay.sessions.create(session_of(membership(GUILD), user_id=7))
    viewer = relay.connect((b"cookie", f"guildhall={token}".encode()))
    for each in (connection, viewer):
        each.subscribe()
        await each.frame(1)
    watch = relay.relay._gate.watch
    await until(lambda: watch.hears)

    async def away(_: str) -> AsyncIterator[Any]:
        raise HostUnreachable
        yield

    with monkeypatch.context() as patch:
        patch.setattr(relay.rbac, "changes", away)
        relay.rbac._fan_out.close()
        await until(lambda: watch.breaks)
        relay.database.roles.clear()
        relay.host.feed(item(1))
        for each in (connection, viewer):
            assert (await each.frame(2))["op"] == "events"
        relay.rbac._fan_out = FanOut()
    assert (await viewer.frame(3))["code"] == "not_allowed"
    assert len(connection.frames) == 2
    for each in (connection, viewer):
        each.leave()
    await relay.is_free()


async def test_a_change_during_the_question_is_obeyed(
    relay: RelayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that let somebody in was from before it."""
    asked, go_on = asyncio.Event(), asyncio.Event()
    roles_of = relay.rbac.roles_of

    async def slowly(members: Any, **wait: bool) -> Any:
        answer = await roles_of(members, **wait)
        asked.set()
        await go_on.wait()
        return answer

    await until(lambda: relay.relay._gate.watch.hears)
    relay.database.roles[GUILD, 1] = "viewer"
    token = await relay.sessions.create(session_of(membership(GUILD)))
    connection = relay.connect((b"cookie", f"guildhall={token}".encode()))
    relay.host.at_once = lambda call: call.answer(0)
    with monkeypatch.context() as patch:
        patch.setattr(relay.rbac, "roles_of", slowly)
        connection.subscribe()
        await asked.wait()
        await relay.rbac.change(Revoke(1), OWNER)
        await until(lambda: relay.relay._gate.watch.changes)
    go_on.set()

    async def refused() -> bool:
        return any(frame.get("code") == "not_allowed" for frame in connection.frames)

    await eventually(refused, within_s=5)
    connection.leave()
    await relay.is_free()


async def test_logging_out_closes_every_socket_of_the_session(relay: RelayUnderTest) -> None:
    """At once, whether they watch or not; another session of the same person stays."""
    token, other = await relay.token(GUILD), await relay.token(GUILD)
    idle, watching, elsewhere = (
        relay.connect((b"cookie", f"guildhall={each}".encode())) for each in (token, token, other)
    )
    relay.host.at_once = lambda call: call.answer(0)
    for each in (watching, elsewhere):
        each.subscribe()
        await each.frame(1)
    await relay.sessions.end(token)
    for each in (idle, watching):
        assert await each.end() == (4001, "You were logged out.")
    relay.host.feed(item(1))
    assert (await elsewhere.frame(2))["op"] == "events"
    elsewhere.leave()
    await relay.is_free()


@pytest.mark.parametrize("missed", [True, False])
async def test_a_session_that_ended_unheard_is_found_out(
    relay: RelayUnderTest, monkeypatch: pytest.MonkeyPatch, missed: bool
) -> None:
    """After a break in the hearing, and now and then anyway: of a session that ends of age nobody tells."""
    connection = await relay.owner()
    connection.subscribe()
    (await relay.host.call(1)).answer(0)
    await connection.frame(1)
    relay.clock.advance(SESSION_MS)
    if missed:
        relay.ended.miss()
    else:
        monkeypatch.setattr(doorkeeper, "LOOK_AT_SESSIONS_EVERY_S", 0.001)
        relay.relay._doorkeeper._look_now.set()
    assert await connection.end() == (4001, "You were logged out.")
    await relay.is_free()


async def test_nobody_is_shown_out_while_sessions_cannot_be_read(
    relay: RelayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked for again soon, and then who is not there any more has to go."""
    monkeypatch.setattr(doorkeeper, "TRY_AGAIN_S", 0.001)
    connection = await relay.owner()
    connection.subscribe()
    (await relay.host.call(1)).answer(0)
    await connection.frame(1)
    relay.sessions.available = False
    relay.clock.advance(SESSION_MS)
    relay.ended.miss()
    for offset in range(1, 4):
        relay.host.feed(item(offset))
        await connection.frame(1 + offset)
    relay.sessions.available = True
    assert (await connection.end())[0] == 4001


async def test_who_opens_too_many_connections_is_told_to_wait(
    relay: RelayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a code of its own; others get in."""
    monkeypatch.setattr(relay.limiter, "_rates", Rates(handshakes="2 per minute"))
    token = await relay.token(GUILD, user_id=7)
    mine = [relay.connect((b"cookie", f"guildhall={token}".encode())) for _ in range(3)]
    assert (await mine[2].end())[0] == 1013
    stranger = await relay.owner()
    for each in (*mine[:2], stranger):
        each.subscribe()
        await relay.host.call(1)
    relay.clock.advance(60_000)
    again = relay.connect((b"cookie", f"guildhall={token}".encode()))
    again.say(op="unsubscribe", guild_id="1")
    assert (await again.frame(1))["op"] == "unsubscribed"


async def test_strangers_are_counted_by_their_address(
    relay: RelayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes without a session too often is told to wait; who has one gets in from there."""
    monkeypatch.setattr(relay.limiter, "_rates", Rates(strangers="2 per minute"))
    codes = [(await relay.connect((b"cookie", b"guildhall=made-up")).end())[0] for _ in range(3)]
    assert codes == [4001, 4001, 1013]
    owner = await relay.owner()
    owner.say(op="unsubscribe", guild_id="1")
    assert (await owner.frame(1))["op"] == "unsubscribed"


async def test_no_socket_comes_by_the_fallback_proxy(relay: RelayUnderTest) -> None:
    """Where the transport is not to be reached one is told to come back, before anything is asked for it."""
    relay.sessions.available = False
    cookie = (b"cookie", b"guildhall=any")
    assert await relay.connect(cookie, by_transport=False).end() == (1012, "The server restarts.")
    await relay.is_free()


async def limited(**limits: Any) -> RelayUnderTest:
    return await RelayUnderTest(SocketLimits(**limits)).start()


async def test_a_person_holds_so_many_sockets_over_all_relays() -> None:
    """One more is told to come back later; one that is closed makes room, and so does a dead relay."""
    relay = await limited(sockets=3)
    relay.shared.living.add("another")
    relay.shared.by_user[7]["another"] = 1
    token = await relay.token(GUILD, user_id=7)
    first, second, third = [relay.connect((b"cookie", f"guildhall={token}".encode())) for _ in range(3)]
    assert await third.end() == (1013, "You have too many connections open.")
    others = await relay.owner(user_id=8)
    await until(lambda: first.begun and second.begun and others.begun)
    first.leave()
    await until(lambda: relay.shared.by_user[7]["relay"] == 1)
    fourth = relay.connect((b"cookie", f"guildhall={token}".encode()))
    await until(lambda: fourth.begun)
    relay.shared.forget("another")
    fifth = relay.connect((b"cookie", f"guildhall={token}".encode()))
    await until(lambda: fifth.begun)
    for connection in (second, fourth, fifth, others):
        connection.leave()
    await relay.is_free()
    await relay.end()


async def test_an_address_holds_so_many_connections() -> None:
    """One more is told to come back later, before anything is looked up for it; others get in."""
    relay = await limited(sockets_per_address=2)
    first, second = await relay.owner(), await relay.owner()
    await until(lambda: first.begun and second.begun)
    relay.sessions.available = False
    refused = relay.connect((b"cookie", b"guildhall=any"))
    assert await refused.end() == (1013, "Too many connections from this address.")
    relay.sessions.available = True
    token = await relay.token(GUILD, user_id=9)
    elsewhere = relay.connect((b"cookie", f"guildhall={token}".encode()), address="192.0.2.1")
    await until(lambda: elsewhere.begun)
    first.leave()
    await asyncio.wait_for(first.task, 5)
    again = await relay.owner()
    await until(lambda: again.begun)
    await relay.end()


async def test_a_person_subscribes_so_often() -> None:
    """On all their sockets together; one more is refused before anything is asked, until time passes."""
    relay = await limited(subscribes=Allowance(3, 60.0))
    token = await relay.token(GUILD, user_id=7)
    one, two = [relay.connect((b"cookie", f"guildhall={token}".encode())) for _ in range(2)]
    relay.host.at_once = lambda call: call.answer(0)
    for number in (1, 2):
        for connection in (one, two):
            connection.subscribe()
            await connection.frame(number)
    refused = two.frames[1]
    assert (refused["code"], refused["guild_id"]) == ("too_many_requests", str(GUILD))
    assert len(relay.host.calls) == 3
    relay.clock.advance(20_000)
    one.subscribe()
    await relay.host.call(4)
    for connection in (one, two):
        connection.leave()
    await relay.is_free()
    await relay.end()


async def test_a_socket_that_says_too_much_is_closed(relay: RelayUnderTest) -> None:
    """With a code of its own, behind what was heard before."""
    connection = await relay.owner()
    connection.say(op="unsubscribe", guild_id="1")
    connection._said.put_nowait({"type": EXCESS})
    assert (await connection.end())[0] == 4029
    assert len(connection.frames) == 1
    await relay.is_free()


async def test_a_socket_that_watches_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute, whether it never watched or was refused; who watches, or waits to, stays."""
    monkeypatch.setattr(idle_sockets, "LOOKS", 60_000)
    relay = await limited()
    silent, refused, watching, waiting = [await relay.owner(GUILD) for _ in range(4)]
    refused.subscribe(GUILD + 1)
    watching.subscribe()
    (await relay.host.call(1)).answer(0)
    waiting.subscribe()
    call = await relay.host.call(2)
    await until(lambda: refused.frames and watching.frames)

    async def looked() -> bool:
        return len(relay.relay._idle._since_s) == 2

    await eventually(looked, within_s=5)
    relay.clock.advance(59_000)
    await asyncio.sleep(0.01)
    assert silent.closed is refused.closed is None
    relay.clock.advance(1_000)
    for connection in (silent, refused):
        assert await connection.end() == (4011, "This connection watches no server.")
    call.answer(0)
    await waiting.frame(1)
    relay.host.feed(item(1))
    await watching.frame(2)
    await relay.end()


async def test_each_subscribe_has_its_answer(relay: RelayUnderTest) -> None:
    """Also those that a later one, or an unsubscribe, overtook."""
    connection = await relay.owner()
    connection.subscribe()
    connection.subscribe()
    await relay.host.call(1)
    connection.say(op="unsubscribe", guild_id=str(GUILD))
    await connection.frame(3)
    assert [frame.get("code", frame["op"]) for frame in connection.frames] == [
        "superseded",
        "superseded",
        "unsubscribed",
    ]
    connection.leave()
    relay.host.calls[0].answer(0)
    await relay.is_free()


async def test_a_first_subscribe_that_comes_late_goes_by_todays_session(relay: RelayUnderTest) -> None:
    """Where somebody was a member when they connected is good for a moment only."""
    token = await relay.token(GUILD)
    early, late = (relay.connect((b"cookie", f"guildhall={token}".encode())) for _ in range(2))
    await until(lambda: len(relay.relay._hub.sockets()) == 2)
    await relay.sessions.keep_guilds(1, (), relay.clock())
    early.subscribe()
    (await relay.host.call(1)).answer(0)
    assert (await early.frame(1))["op"] == "subscribed"
    relay.clock.advance(int(FRESH_S * 1000))
    late.subscribe()
    assert (await late.frame(1))["code"] == "not_allowed"


async def test_a_relay_counts_what_it_does(relay: RelayUnderTest) -> None:
    """Sockets by the way they are written to, what went out, and why it closed which."""
    watching, idle = await relay.owner(), await relay.owner()
    watching.subscribe()
    (await relay.host.call(1)).answer(0)
    await watching.frame(1)
    one = item(1)
    relay.host.feed(one, item(1, GUILD + 1))
    await watching.frame(2)
    counts = relay.relay._counts().relay
    assert counts == RelayCounts({"test": 2}, 1, frames=1, bytes=len(frame_of(one)), closed={}, hosts=1)
    idle.say_raw(text="nonsense")
    await idle.end()
    counts = relay.relay._counts().relay
    assert counts is not None
    assert (counts.sockets, counts.closed) == ({"test": 1}, {"4010": 1})


async def test_one_socket_watches_so_many_servers(relay: RelayUnderTest) -> None:
    """One more is refused; one it watches already may be asked for again; letting go makes room."""
    guild_ids = list(range(1, MAX_SUBSCRIPTIONS + 2))
    connection = await relay.owner(*guild_ids)
    relay.host.at_once = lambda call: call.answer(0)
    for guild_id in guild_ids:
        connection.subscribe(guild_id)
    await until(lambda: len(connection.frames) == MAX_SUBSCRIPTIONS + 1)
    [refused] = [frame for frame in connection.frames if frame["op"] == "error"]
    assert (refused["code"], refused["guild_id"]) == ("too_many_subscriptions", str(guild_ids[-1]))
    connection.subscribe(1)
    assert (await connection.frame(MAX_SUBSCRIPTIONS + 2))["op"] == "subscribed"
    connection.say(op="unsubscribe", guild_id="2")
    connection.subscribe(guild_ids[-1])
    assert (await connection.frame(MAX_SUBSCRIPTIONS + 4))["op"] == "subscribed"
    connection.leave()
    await relay.is_free()


async def test_a_host_that_does_not_answer_holds_no_other_guild_up(relay: RelayUnderTest) -> None:
    """While one guild is asked for, the socket hears and says everything else."""
    connection = await relay.owner(GUILD, GUILD + 1)
    connection.subscribe(GUILD)
    await relay.host.call(1)
    connection.subscribe(GUILD + 1)
    (await relay.host.call(2)).answer(0)
    assert (await connection.frame(1))["guild_id"] == str(GUILD + 1)
    relay.host.calls[0].answer(0)
    assert (await connection.frame(2))["guild_id"] == str(GUILD)
    connection.leave()


# -- going ----------------------------------------------------------------------------------------


async def test_leaving_frees_all(relay: RelayUnderTest) -> None:
    """Guilds that are followed and guilds that are being asked for; nothing is said to who has left."""
    connection = await relay.owner(GUILD, GUILD + 1)
    connection.subscribe(GUILD)
    (await relay.host.call(1)).answer(0)
    connection.subscribe(GUILD + 1)
    call = await relay.host.call(2)
    connection.leave()
    await asyncio.wait_for(connection.task, 5)
    call.answer(0)
    await relay.is_free()
    assert len(connection.frames) == 1


async def test_a_reader_that_stands_still_is_cut(relay: RelayUnderTest) -> None:
    """Its queue fills, the socket is over and all is freed; the others do not notice."""
    connection, other = await relay.owner(), await relay.owner()
    for number, each in enumerate((connection, other), 1):
        each.subscribe()
        (await relay.host.call(number)).answer(0)
        await each.frame(1)
    connection.hold()
    event = b'{"filling":"%s"}' % (b"x" * (socket_module.MAX_QUEUED_BYTES // 2))
    for offset in range(1, 5):
        relay.host.feed(Item(GUILD, 1, offset, [event]))
        await other.frame(1 + offset)
    assert (await connection.end())[0] == 4008
    other.leave()
    await relay.is_free()


async def test_a_connection_that_is_cancelled_frees_all(relay: RelayUnderTest) -> None:
    """A server that gives a connection up leaves nothing behind."""
    connection = await relay.owner()
    connection.subscribe()
    (await relay.host.call(1)).answer(0)
    await connection.frame(1)
    connection.task.cancel()
    await asyncio.gather(connection.task, return_exceptions=True)
    await relay.is_free()


async def test_nothing_keeps_running_after_the_end(relay: RelayUnderTest) -> None:
    """When all have left and the relay has stopped, there is not one task more than before."""
    connections = [await relay.owner() for _ in range(3)]
    relay.host.at_once = lambda call: call.answer(0)
    for connection in connections:
        connection.subscribe()
        await connection.frame(1)
    for connection in connections:
        connection.leave()
    await asyncio.gather(*(connection.task for connection in connections))
    await relay.stop()
    mine = {task for task in asyncio.all_tasks() if "serve_app" in repr(task.get_coro())}
    assert mine == set()
