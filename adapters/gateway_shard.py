"""One shard's connection to Discord's gateway, kept up by discord.py's WebSocket.

discord.py's own client launches shards one after another, and its shards come back one after another too:
one that waits for leave to identify would hold up the RESUMEs of all others. Here each looks after itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextvars import ContextVar
from typing import Any, NamedTuple

import aiohttp
import discord
import structlog
import yarl
from discord.gateway import DiscordWebSocket, ReconnectWebSocket

from adapters.gateway_silence import TICK_S, GatewaySilence, Patience
from adapters.identify_turns import IdentifyTurns, Turn
from domain.ports import Position

log = structlog.get_logger()

CONNECT_WITHIN_S = 20.0
ANSWER_WITHIN_S = 60.0
"""How long Discord may take to answer an IDENTIFY or a RESUME."""
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
SENT_WITHIN_S = 1.0
UNANSWERED = 3
"""IDENTIFYs in a row that were granted and led to no session: from then on the shard is said to fail."""

KEEPS_SESSION = 4000
"""A close code after which Discord keeps the session for a while; 1000 and 1001 end it."""
_FINAL = (4004, 4010, 4011, 4012, 4013, 4014)
"""Close codes after which nobody is to come back."""

_TROUBLE = (
    OSError,
    TimeoutError,
    aiohttp.ClientError,
    discord.HTTPException,
    discord.GatewayNotFound,
    discord.ConnectionClosed,
)


class Session(NamedTuple):
    """What a RESUME needs."""

    session_id: str
    resume_url: str
    sequence: int


class _Socket(DiscordWebSocket):
    """A WebSocket that its shard knows from the start, also when connecting it is given up half-way."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, **options: Any) -> None:
        super().__init__(socket, **options)
        shard = _running.get()
        self.silence = GatewaySilence(shard.patience, shard.silences)
        shard.opened(self)

    async def received_message(self, msg: Any, /) -> None:
        self.silence.heard()
        await super().received_message(msg)

    async def ask(self) -> None:
        """Send a heartbeat before it is due, unless that were one payload too many."""
        if self._keep_alive is None or self.is_ratelimited():
            return
        self.silence.asked()
        try:
            async with asyncio.timeout(SENT_WITHIN_S):
                await self.send_as_json(self._keep_alive.beat())
        except _TROUBLE as error:
            # Nobody will answer that, which is all that needs to be known.
            log.info("gateway_not_asked", shard=self.shard_id, error=repr(error))


class GatewayShard:
    """Connects one shard and keeps it connected: by RESUME where it can, by IDENTIFY when it is granted."""

    def __init__(
        self,
        client: discord.AutoShardedClient,
        shard_id: int,
        turns: IdentifyTurns,
        session: Session | None = None,
        *,
        answer_within_s: float = ANSWER_WITHIN_S,
        patience: Patience | None = None,
    ) -> None:
        self.shard_id = shard_id
        self.patience = patience or Patience()
        self.fell_silent = False
        """Whether the last connection was given up because nothing came over it, not even an answer."""
        self.silences = 0
        """Connections in a row that were given up so, and on which no answer had come in time."""
        self.connected = False
        """Whether Discord answered the last IDENTIFY or RESUME, on a connection that stands."""
        self.is_first = True
        """Whether it was never connected in this life."""
        self.failure: str | None = None
        self._client = client
        self._turns = turns
        self._session = session
        self._answer_within_s = answer_within_s
        self._socket: _Socket | None = None
        self._turn: Turn | None = None
        self._turn_used = False
        self._unanswered = 0
        self._resumes_unanswered = 0
        self._retry_s = FIRST_RETRY_S

    @property
    def latency_s(self) -> float:
        """How long the last answer to a heartbeat took; infinite without one."""
        return self._socket.latency if self._socket is not None else float("inf")

    def session(self) -> Session | None:
        """Return what a RESUME from here needs: everything up to its sequence number was dispatched."""
        socket = self._socket
        if socket is not None and socket.session_id is not None and socket.sequence is not None:
            return Session(socket.session_id, str(socket.gateway), socket.sequence)
        return self._session

    def position(self) -> Position | None:
        """Return the place of the event that is being dispatched."""
        session = self.session()
        return None if session is None else Position(self.shard_id, session.session_id, session.sequence)

    async def run(self) -> None:
        """Stay connected until cancelled; raise ``ConnectionClosed`` when Discord never wants us back."""
        _running.set(self)
        while True:
            try:
                await self._connect()
                await self._listen()
            except asyncio.CancelledError:
                self._session, self.connected = self.session(), False
                raise
            except ReconnectWebSocket as again:
                self._lost(keeps_session=again.resume)
                if not again.resume and self._turn_used:
                    self._note_unanswered()
            except _TROUBLE as error:
                code = error.code if isinstance(error, discord.ConnectionClosed) else None
                if code in _FINAL:
                    raise
                self._lost(keeps_session=code != 1000)  # noqa: PLR2004 - a normal close ends the session
                log.warning("shard_reconnects", shard=self.shard_id, error=repr(error), after_s=self._retry_s)
                await self._pause()
            except Exception:
                # A bug in handling an event: the next one follows it, or the shard would be deaf for ever.
                self._lost(keeps_session=True)
                log.exception("shard_broke", shard=self.shard_id)
                await self._pause()
            finally:
                await self._let_go()

    def opened(self, socket: _Socket) -> None:
        """Note the connection that is being made."""
        self._socket = socket

    def may_identify(self) -> bool:
        """Return whether the grant is still good, and count it as spent from here on.

        Called right before the IDENTIFY is sent. Without a grant none ever is.
        """
        turn = self._turn
        if turn is None or self._turn_used or time.monotonic() >= turn.usable_until_s:
            return False
        self._turn_used = True
        return True

    def answered(self) -> None:
        """Note that Discord said READY or RESUMED."""
        self.connected = True
        self.is_first = self.fell_silent = False
        self.failure = None
        self._unanswered = self._resumes_unanswered = 0
        self._turn_used = False
        self._retry_s = FIRST_RETRY_S

    # -- one connection ---------------------------------------------------------------------------

    async def _connect(self) -> None:
        if self._session is not None:
            # The address that Discord gave for this session may be gone for good. Every other try goes to the
            # address for everybody, which knows the session or says that it has ended.
            url = yarl.URL(self._session.resume_url) if self._resumes_unanswered % 2 == 0 else None
            self._resumes_unanswered += 1
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await _Socket.from_client(
                    self._client,
                    gateway=url,
                    shard_id=self.shard_id,
                    session=self._session.session_id,
                    sequence=self._session.sequence,
                    resume=True,
                )
            return
        self._turn, self._turn_used = await self._turns.take(self.shard_id), False
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await _Socket.from_client(self._client, shard_id=self.shard_id)
        finally:
            turn, self._turn = self._turn, None
            await (self._turns.spent(turn) if self._turn_used else self._turns.give_back(turn))

    async def _listen(self) -> None:
        socket = self._socket
        assert socket is not None  # noqa: S101 - it was connected a moment ago
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._answer_within_s) as limit:
                while not self.connected:
                    before = socket.sequence
                    await socket.poll_event()
                    if socket.sequence != before:  # a long replay is an answer, too
                        limit.reschedule(loop.time() + self._answer_within_s)
        except TimeoutError:
            if self._turn_used:
                self._note_unanswered()
            raise
        async with asyncio.timeout(None) as limit:
            watch = asyncio.create_task(self._watch(socket, limit), name=f"silence-{self.shard_id}")
            try:
                while True:
                    await socket.poll_event()
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, socket: _Socket, limit: asyncio.Timeout) -> None:
        """Ask a gateway that is silent, and give up a connection over which no answer comes."""
        loop = asyncio.get_running_loop()
        ticked_s = loop.time()
        try:
            while True:
                await asyncio.sleep(TICK_S)
                passed_s, ticked_s = loop.time() - ticked_s, loop.time()
                match socket.silence.tick(passed_s):
                    case "ask":
                        await socket.ask()
                    case "blind":
                        log.warning("gateway_silent", shard=self.shard_id)
                        self.fell_silent, self.silences = True, socket.silence.silences
                        break
                    case "listen":
                        pass
        except Exception:
            # Unwatched, a dead connection would pass for a quiet one: better a new one.
            log.exception("watch_broke", shard=self.shard_id)
        limit.reschedule(loop.time())

    def _lost(self, *, keeps_session: bool) -> None:
        session = self.session() if keeps_session else None
        self._session, self.connected = session, False
        self._client.dispatch("shard_disconnect", self.shard_id)

    def _note_unanswered(self) -> None:
        self._turn_used = False
        self._unanswered += 1
        if self._unanswered >= UNANSWERED:
            self.failure = (
                f"Shard {self.shard_id} was let in {self._unanswered} times, and Discord began no session."
            )
            log.error("shard_not_let_in", shard=self.shard_id, times=self._unanswered)

    async def _pause(self) -> None:
        await asyncio.sleep(self._retry_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    async def _let_go(self) -> None:
        """Close the connection in a way that keeps the session."""
        socket, self._socket = self._socket, None
        if socket is None:
            return
        try:
            async with asyncio.timeout(2.0):
                await socket.close(code=KEEPS_SESSION)
        except _TROUBLE as error:
            log.info("socket_not_closed", shard=self.shard_id, error=repr(error))


_running: ContextVar[GatewayShard] = ContextVar("running")
"""The shard in whose task this runs."""
