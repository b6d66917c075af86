"""What a relay tells a host of its sockets: gathered while a call is under way, so that a crowd costs few.

After a restart thousands of sockets come back at once, and a call for each would cost a relay and a host a
millisecond apiece. One call carries all that came since the last.
"""

from __future__ import annotations

import asyncio
import contextlib

from actors.guild import Admission, Answer, Unwatch, Watch
from actors.routing import HostCalls
from domain.errors import HostUnreachable, TooManySockets
from tasks import SupervisedTasks


class WatchCalls:
    """Speaks to one host on behalf of one stream from it."""

    def __init__(
        self,
        host: HostCalls,
        relay_id: str,
        tasks: SupervisedTasks,
    ) -> None:
        self._host = host
        self._relay_id = relay_id
        self._tasks = tasks
        self._waiting: list[tuple[Watch | Unwatch, asyncio.Future[Answer]]] = []
        self._asking = False

    async def watch(self, wanted: Watch) -> Admission:
        """Register a socket on a guild; raises what ``GuildHost.watch`` does."""
        answer = await self._tell(wanted)
        if isinstance(answer, Admission):
            return answer
        if answer != "too_many_sockets":
            with contextlib.suppress(TooManySockets):
                return await self._host.watch(self._relay_id, wanted)
        # Some of them may be this person's own from before, on a relay that died.
        await self._host.evict_silent(wanted.guild_id, wanted.user_id)
        return await self._host.watch(self._relay_id, wanted)

    def prove(self) -> None:
        """Say that this relay is there."""
        self._tasks.spawn("prove", self._prove())

    async def _prove(self) -> None:
        with contextlib.suppress(HostUnreachable):  # then it goes with the stream
            await self._host.prove(self._relay_id)

    async def unwatch(self, socket_id: int, guild_id: int) -> None:
        """Take a socket off a guild; raises ``HostUnreachable``."""
        await self._tell(Unwatch(socket_id, guild_id))

    async def _tell(self, request: Watch | Unwatch) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if not self._asking:
            self._asking = True
            self._tasks.spawn("register", self._ask())
        return await answer

    async def _ask(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                requests = [request for request, _ in waiting]
                problem: Exception | None = None
                answers: list[Answer] = []
                try:
                    answers = await self._host.register(self._relay_id, requests)
                except Exception as error:  # noqa: BLE001 - whoever asked is told, whatever it is
                    problem = error
                for number, (_, answer) in enumerate(waiting):
                    if answer.done():
                        continue
                    if problem is None:
                        answer.set_result(answers[number])
                    else:
                        answer.set_exception(problem)
        finally:
            self._asking = False
            for _, answer in self._waiting:  # only when cancelled
                answer.cancel()
