"""Who may stay: closes the sockets of sessions that end, and ends the watching of who loses the role."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from domain.errors import RolesUnavailable, SessionsUnavailable, StoreUnavailable
from domain.permissions import Permission, may
from domain.protocol import CloseCode
from domain.roles import Member, Roles
from domain.sessions import EndedSessions, SessionLookup
from serve_app.hub import Hub
from serve_app.socket import Socket

log = structlog.get_logger()

NEEDED: Permission = "view_violations"
LOOK_AT_ROLES_EVERY_S = 0.5
AT_ONCE = 2_000
"""A question about more would hold up the frames of everybody while it is put together."""
LOOK_AT_SESSIONS_EVERY_S = 30.0
"""An end is told of at once, but not more than once, and not when a session ends of age."""
TRY_AGAIN_S = 2.0


class Doorkeeper:
    """Looks again and again at everybody who is in, and listens for those who log out."""

    def __init__(
        self,
        hub: Hub,
        roles: Roles,
        sessions: SessionLookup,
        ended: EndedSessions,
        refuse: Callable[[Socket, int], None],
    ) -> None:
        self._hub = hub
        self._roles = roles
        self._sessions = sessions
        self._ended = ended
        self._refuse = refuse
        self._look_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look."""
        work = (self._look_at_roles_forever(), self._look_at_sessions_forever(), self._hear_of_ends())
        self._tasks = [asyncio.create_task(each) for each in work]

    async def stop(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_at_roles_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AT_ROLES_EVERY_S)
            watching = self._hub.watching()
            for start in range(0, len(watching), AT_ONCE):
                try:
                    await self._look_at_roles(watching[start : start + AT_ONCE])
                except (StoreUnavailable, RolesUnavailable) as problem:
                    # What takes a role away is away too: what was granted still holds.
                    log.warning("roles_not_rechecked", error=str(problem))
                except Exception:
                    log.exception("recheck_broke")

    async def _look_at_roles(self, watching: Sequence[tuple[Socket, Member]]) -> None:
        roles = await self._roles.roles_of({member for _, member in watching})
        for socket, member in watching:
            if (
                member in roles
                and not may(roles[member], NEEDED)
                and member.guild_id in self._hub.guilds_of(socket)
            ):
                self._hub.unsubscribe(socket, member.guild_id)
                self._refuse(socket, member.guild_id)

    async def _hear_of_ends(self) -> None:
        async for session_id in self._ended:
            if session_id is None:  # some may have been missed
                self._look_now.set()
                continue
            for socket in self._hub.sockets():
                if socket.session_id == session_id:
                    _show_out(socket)

    async def _look_at_sessions_forever(self) -> None:
        wait_s = 0.0
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    await self._look_now.wait()
            except TimeoutError:
                pass
            self._look_now.clear()
            wait_s = LOOK_AT_SESSIONS_EVERY_S
            sockets = self._hub.sockets()
            try:
                alive = await self._sessions.alive({socket.session_id for socket in sockets})
            except SessionsUnavailable:
                wait_s = TRY_AGAIN_S
                continue
            except Exception:
                log.exception("sessions_not_rechecked")
                continue
            for socket in sockets:
                if socket.session_id not in alive:
                    _show_out(socket)


def _show_out(socket: Socket) -> None:
    socket.close(CloseCode.SESSION_ENDED, "You were logged out.")
