"""The gateway's core without sockets."""

# The stand-ins below say by their names what they do.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from discord_sim.gateway_core import GatewayCore
from discord_sim.gateway_session import GatewayOptions
from discord_sim.protocol import CloseCode, Event, Intents, Op

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from discord_sim.gateway_connection import GatewayConnection

TOKEN = "right"
MESSAGES = int(Intents.GUILDS | Intents.GUILD_MESSAGES | Intents.MESSAGE_CONTENT)
EVEN, ODD = 2 << 22, 3 << 22


class TwoGuilds:
    """A world of two guilds, one on each of two shards."""

    def check_token(self, token: str) -> bool:
        return token == TOKEN

    def ready(self) -> dict[str, Any]:
        return {"user": {"id": "1"}, "resume_gateway_url": "ws://x"}

    def guild_ids(self, shard_id: int, shard_count: int) -> Sequence[int]:
        return [guild_id for guild_id in (EVEN, ODD) if (guild_id >> 22) % shard_count == shard_id]

    def guild_create(self, guild_id: int, intents: int, large_threshold: int) -> bytes:
        return orjson.dumps({"id": str(guild_id), "intents": intents, "threshold": large_threshold})

    def member_chunks(self, request: dict[str, Any], intents: int) -> Iterable[bytes]:
        yield orjson.dumps({"nonce": request["nonce"], "intents": intents})


class Peer:
    """A client on one connection of a core."""

    def __init__(self, core: GatewayCore, now: float = 0.0) -> None:
        self.core = core
        self.connection: GatewayConnection = core.connect(now)
        assert self.read()[0]["op"] == Op.HELLO

    def say(self, op: int, data: Any, now: float = 0.0) -> None:
        self.connection.receive(orjson.dumps({"op": op, "d": data}), now)

    def identify(self, now: float = 0.0, **changes: Any) -> None:
        data = {"token": TOKEN, "properties": {}, "intents": MESSAGES, "shard": [0, 1]} | changes
        self.say(Op.IDENTIFY, {key: value for key, value in data.items() if value is not None}, now)

    def resume(self, session_id: str, seq: int, now: float = 0.0) -> None:
        self.say(Op.RESUME, {"token": TOKEN, "session_id": session_id, "seq": seq}, now)

    def read(self) -> list[dict[str, Any]]:
        found = [orjson.loads(frame) for frame in self.connection.outbox]
        self.connection.outbox.clear()
        return found

    def closed_with(self) -> int | None:
        return None if self.connection.close is None else self.connection.close.code


def core(**options: Any) -> GatewayCore:
    return GatewayCore(TwoGuilds(), GatewayOptions(**({"identify_interval_s": 0.0} | options)))


def said(text: str, guild_id: int = EVEN) -> Event:
    return Event(
        "MESSAGE_CREATE",
        orjson.dumps({"content": text}),
        guild_id=guild_id,
        intents=Intents.GUILD_MESSAGES,
        redact=lambda: b'{"content":""}',
    )


def texts(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["d"]["content"] for frame in frames if frame["t"] == "MESSAGE_CREATE"]


def test_identify_is_answered_with_ready_and_the_guilds_of_the_shard() -> None:
    """READY names the shard's guilds as unavailable; GUILD_CREATE brings them."""
    peer = Peer(core())
    peer.identify(shard=[1, 2], large_threshold=100)
    ready, created = peer.read()
    assert (ready["op"], ready["t"], ready["s"]) == (0, "READY", 1)
    assert ready["d"]["guilds"] == [{"id": str(ODD), "unavailable": True}]
    assert ready["d"]["shard"] == [1, 2]
    assert len(ready["d"]["session_id"]) == 32
    assert (created["t"], created["s"]) == ("GUILD_CREATE", 2)
    assert created["d"] == {"id": str(ODD), "intents": MESSAGES, "threshold": 100}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"token": "wrong"}, CloseCode.AUTHENTICATION_FAILED),
        ({"token": 7}, CloseCode.AUTHENTICATION_FAILED),
        ({"shard": [2, 2]}, CloseCode.INVALID_SHARD),
        ({"shard": [-1, 2]}, CloseCode.INVALID_SHARD),
        ({"shard": [0, 0]}, CloseCode.INVALID_SHARD),
        ({"shard": "0"}, CloseCode.INVALID_SHARD),
        ({"intents": None}, CloseCode.INVALID_INTENTS),
        ({"intents": 1 << 30}, CloseCode.INVALID_INTENTS),
        ({"intents": "all"}, CloseCode.INVALID_INTENTS),
        ({"properties": None}, CloseCode.DECODE_ERROR),
    ],
)
def test_a_wrong_identify_is_closed_with_its_code(changes: dict[str, Any], code: int) -> None:
    """Each mistake has the code that tells whether to come back."""
    peer = Peer(core())
    peer.identify(**changes)
    assert peer.closed_with() == code
    assert peer.core.sessions == {}


def test_privileged_intents_can_be_disallowed() -> None:
    """4014 is for intents the application was not given."""
    peer = Peer(core(allowed_privileged_intents=0))
    peer.identify(intents=int(Intents.GUILD_MEMBERS))
    assert peer.closed_with() == CloseCode.DISALLOWED_INTENTS


def test_too_many_guilds_for_one_shard_need_sharding() -> None:
    """4011 as soon as a shard would have more than it may."""
    peer = Peer(core(max_guilds_per_shard=1))
    peer.identify()
    assert peer.closed_with() == CloseCode.SHARDING_REQUIRED


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"{", CloseCode.DECODE_ERROR),
        (b"[]", CloseCode.DECODE_ERROR),
        (b'{"op":"1"}', CloseCode.DECODE_ERROR),
        (b'{"op":1,"d":"' + b"x" * 4096 + b'"}', CloseCode.DECODE_ERROR),
        (b'{"op":99}', CloseCode.UNKNOWN_OPCODE),
        (b'{"op":3,"d":{}}', CloseCode.NOT_AUTHENTICATED),
        (b'{"op":8,"d":{}}', CloseCode.NOT_AUTHENTICATED),
    ],
)
def test_a_payload_that_makes_no_sense_is_closed_with_its_code(payload: bytes, code: int) -> None:
    """What cannot be read, is too long, unknown or too early ends the connection."""
    peer = Peer(core())
    peer.connection.receive(payload, 0.0)
    assert peer.closed_with() == code


def test_a_second_identify_is_refused() -> None:
    """4005, and the session may still be resumed."""
    peer = Peer(core())
    peer.identify()
    peer.identify()
    assert peer.closed_with() == CloseCode.ALREADY_AUTHENTICATED
    peer.connection.closed(4005, 0.0)
    assert len(peer.core.sessions) == 1


def test_heartbeats_are_acknowledged_even_before_identify() -> None:
    """The library beats as soon as it hears HELLO."""
    peer = Peer(core())
    peer.say(Op.HEARTBEAT, None)
    assert [frame["op"] for frame in peer.read()] == [Op.HEARTBEAT_ACK]


def test_a_client_that_stops_beating_is_closed() -> None:
    """One and a half intervals of silence are enough; a beat in time is not silence."""
    peer = Peer(core(heartbeat_interval_ms=1000))
    peer.identify()
    peer.say(Op.HEARTBEAT, 1, now=1.0)
    peer.core.tick(2.4)
    assert peer.closed_with() is None
    peer.core.tick(2.6)
    assert peer.closed_with() == CloseCode.SESSION_TIMED_OUT


def test_more_than_120_sends_a_minute_are_closed() -> None:
    """4008 at the 121st within the window; an older one no longer counts."""
    peer = Peer(core())
    for number in range(120):
        peer.say(Op.HEARTBEAT, None, now=float(number) / 10)
    peer.say(Op.HEARTBEAT, None, now=60.0)
    assert peer.closed_with() is None
    peer.say(Op.HEARTBEAT, None, now=60.05)
    assert peer.closed_with() == CloseCode.RATE_LIMITED


def test_events_reach_only_the_shard_and_the_intents_that_ask_for_them() -> None:
    """One session hears its shard; a session without the intent hears nothing."""
    both = core()
    even, odd, deaf = Peer(both), Peer(both), Peer(both)
    even.identify(shard=[0, 2])
    odd.identify(shard=[1, 2])
    deaf.identify(shard=[0, 2], intents=int(Intents.GUILDS))
    both.dispatch(said("for even"))
    assert texts(even.read()) == ["for even"]
    assert texts(odd.read()) == []
    assert texts(deaf.read()) == []


def test_content_is_blank_without_the_content_intent() -> None:
    """The message arrives, its text does not."""
    peer = Peer(core())
    peer.identify(intents=int(Intents.GUILD_MESSAGES))
    peer.core.dispatch(said("secret"))
    assert texts(peer.read()) == [""]


def test_without_the_guilds_intent_no_guild_is_created() -> None:
    """READY lists the guilds all the same."""
    peer = Peer(core())
    peer.identify(intents=int(Intents.GUILD_MESSAGES))
    assert [frame["t"] for frame in peer.read()] == ["READY"]


def session_of(peer: Peer) -> tuple[str, int]:
    frames = peer.read()
    return frames[0]["d"]["session_id"], frames[-1]["s"]


def test_a_resume_replays_what_was_missed_in_order_and_then_says_so() -> None:
    """Numbers go on where they stopped, RESUMED comes last."""
    shared = core()
    first = Peer(shared)
    first.identify()
    session_id, seq = session_of(first)
    shared.dispatch(said("sent, but lost on the way"))
    first.connection.closed(None, 1.0)
    shared.dispatch(said("while away"))
    second = Peer(shared)
    second.resume(session_id, seq, now=2.0)
    frames = second.read()
    assert texts(frames) == ["sent, but lost on the way", "while away"]
    assert [frame["s"] for frame in frames] == [seq + 1, seq + 2, seq + 3]
    assert frames[-1]["t"] == "RESUMED"
    shared.dispatch(said("live again"))
    assert texts(second.read()) == ["live again"]
    assert (shared.resumes, shared.identifies) == (1, 1)


@pytest.mark.parametrize(
    ("code", "kept"), [(1000, False), (1001, False), (4000, True), (1006, True), (None, True)]
)
def test_only_a_clean_close_of_the_client_ends_the_session(code: int | None, *, kept: bool) -> None:
    """1000 and 1001 end it; anything else keeps it for a while."""
    peer = Peer(core())
    peer.identify()
    peer.connection.closed(code, 0.0)
    assert bool(peer.core.sessions) is kept


def test_a_session_nobody_resumes_is_forgotten() -> None:
    """After some minutes it is gone."""
    peer = Peer(core(resume_window_s=10.0))
    peer.identify()
    peer.connection.closed(None, 0.0)
    peer.core.tick(9.0)
    assert peer.core.sessions
    peer.core.tick(11.0)
    assert not peer.core.sessions


def test_an_unknown_session_is_invalid_and_the_client_may_identify_on_the_same_connection() -> None:
    """INVALID_SESSION with d false, then a fresh start."""
    peer = Peer(core())
    peer.resume("nobody", 3)
    assert peer.read() == [{"t": None, "s": None, "op": Op.INVALID_SESSION, "d": False}]
    peer.identify()
    assert peer.read()[0]["t"] == "READY"


def test_a_resume_from_before_the_buffer_is_refused() -> None:
    """What was forgotten cannot be replayed; the session ends."""
    shared = core(replay_events=2)
    peer = Peer(shared)
    peer.identify(intents=int(Intents.GUILD_MESSAGES))
    session_id, seq = session_of(peer)
    peer.connection.closed(None, 0.0)
    for number in range(3):
        shared.dispatch(said(str(number)))
    late = Peer(shared)
    late.resume(session_id, seq)
    assert late.read()[0]["op"] == Op.INVALID_SESSION
    assert shared.sessions == {}
    assert shared.resumes_refused == 1


def test_the_replay_buffer_is_bounded_in_bytes() -> None:
    """The newest events stay within the bound and can still be replayed."""
    shared = core(replay_bytes=100)
    peer = Peer(shared)
    peer.identify(intents=int(Intents.GUILD_MESSAGES))
    session_id, _ = session_of(peer)
    for _ in range(10):
        shared.dispatch(said("x" * 20))
    newest = peer.read()[-1]["s"]
    peer.connection.closed(None, 0.0)
    again = Peer(shared)
    again.resume(session_id, newest - 2)
    assert len(texts(again.read())) == 2


def test_a_sequence_from_the_future_is_closed() -> None:
    """4007 for a number that was never sent."""
    peer = Peer(core())
    peer.identify()
    session_id, seq = session_of(peer)
    peer.connection.closed(None, 0.0)
    again = Peer(peer.core)
    again.resume(session_id, seq + 1)
    assert again.closed_with() == CloseCode.INVALID_SEQ


def test_resuming_takes_the_session_from_an_older_connection() -> None:
    """A half-dead connection is closed when the client is already back."""
    peer = Peer(core())
    peer.identify()
    session_id, seq = session_of(peer)
    again = Peer(peer.core)
    again.resume(session_id, seq)
    assert peer.closed_with() == CloseCode.UNKNOWN_ERROR
    peer.connection.closed(4000, 1.0)
    peer.core.dispatch(said("to the new one"))
    assert texts(again.read()) == ["to the new one"]


def test_identifies_of_one_concurrency_bucket_wait_five_seconds() -> None:
    """Shards 0 and 2 share a bucket of two; shard 1 has its own."""
    shared = core(identify_interval_s=5.0, max_concurrency=2)
    peers = [Peer(shared) for _ in range(4)]
    peers[0].identify(now=0.0, shard=[0, 3])
    peers[1].identify(now=0.1, shard=[1, 3])
    peers[2].identify(now=0.2, shard=[2, 3])
    peers[3].identify(now=5.1, shard=[2, 3])
    first_frames = [(peer.read() or [{}])[0] for peer in peers]
    assert [frame.get("t") or frame["op"] for frame in first_frames] == ["READY", "READY", 9, "READY"]


def test_session_starts_are_counted_and_run_out() -> None:
    """The remaining number is what GET /gateway/bot tells; a day later there are new ones."""
    shared = core(session_starts=2, session_start_window_s=100.0)
    for expected in (1, 0):
        Peer(shared).identify(now=1.0)
        assert shared.session_start_limit(1.0)["remaining"] == expected
    refused = Peer(shared)
    refused.identify(now=2.0)
    assert refused.closed_with() == CloseCode.AUTHENTICATION_FAILED
    assert shared.session_start_limit(102.0)["remaining"] == 2


def test_a_client_that_ignores_reconnect_is_closed() -> None:
    """Ten seconds after op 7 the connection goes, and the session stays."""
    peer = Peer(core())
    peer.identify()
    peer.read()
    peer.connection.ask_to_reconnect(1.0)
    assert peer.read() == [{"t": None, "s": None, "op": Op.RECONNECT, "d": None}]
    peer.core.tick(10.0)
    assert peer.closed_with() is None
    peer.core.tick(11.5)
    assert peer.closed_with() == CloseCode.UNKNOWN_ERROR
    peer.connection.closed(4000, 12.0)
    assert peer.core.sessions


def test_member_requests_are_answered_in_the_session() -> None:
    """The chunk is numbered like every dispatch."""
    peer = Peer(core())
    peer.identify()
    _, seq = session_of(peer)
    peer.say(Op.REQUEST_GUILD_MEMBERS, {"guild_id": str(EVEN), "query": "", "limit": 0, "nonce": "n"})
    (chunk,) = peer.read()
    assert (chunk["t"], chunk["s"], chunk["d"]["nonce"]) == ("GUILD_MEMBERS_CHUNK", seq + 1, "n")


def test_another_version_is_refused() -> None:
    """4012 for anything but 10."""
    connection = core().connect(0.0, version="6")
    assert connection.close is not None
    assert connection.close.code == CloseCode.INVALID_API_VERSION


def test_a_client_that_does_not_read_is_cut() -> None:
    """The queue is bounded; the session stays, so that the client may resume."""
    peer = Peer(core(queued_frames=3))
    peer.identify(intents=int(Intents.GUILD_MESSAGES))
    for number in range(3):
        peer.core.dispatch(said(str(number)))
    assert peer.connection.close is not None
    assert peer.connection.close.abort
    peer.connection.closed(None, 1.0)
    assert peer.core.sessions
