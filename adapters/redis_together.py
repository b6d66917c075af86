"""A Redis client whose commands travel together.

For redis-py a command costs a tenth of a millisecond of this process, most of it for the way and little
for the command; every request of the API asks three things of Redis. So whatever is asked while a batch is
under way waits for it and goes with the next: a batch grows with the load, and a lone command waits for
nobody. (``guildhall bench api``)
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from adapters.circuit_breaker import CircuitBreaker

MAX_TOGETHER = 100
ANSWERS_WITHIN_S = 1.0
"""Whatever the client does for it: waits for a connection, makes one anew, or waits for the answer."""


class _Asked(NamedTuple):
    command: tuple[Any, ...]
    options: dict[str, Any]
    answers: list[asyncio.Future[Any]]
    """One for each who asks."""


class TogetherRedis(Redis):
    """Redis, for commands that do not block there: one that did would hold up all the others.

    A batch that fails, fails for all in it. Pipelines and subscriptions have connections of their own.
    """

    def __init__(self, **options: Any) -> None:
        """Take what ``Redis`` takes."""
        super().__init__(**options)
        self._asked: deque[_Asked] = deque()
        self._looks: dict[tuple[Any, ...], _Asked] = {}
        """What of that was asked by ``together``."""
        self._carrying: asyncio.Task[None] | None = None
        self.breaker = CircuitBreaker(self._probe)
        """Opened by who guards what is asked (:class:`adapters.redis_connection.Fuse`), for all who do."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """See the base class."""
        await self.breaker.close()
        await super().aclose(close_connection_pool)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command with the next batch; return or raise its own answer."""
        return await self._ask(_Asked(args, options, []))

    async def together(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands side by side that change nothing; return their answers, or raise the first failure.

        What several callers ask at once, a page that loads for instance, is sent once: as long as it has
        not been sent, its answer is as new for the last of them as for the first.
        """
        return [await answer for answer in [self._look(command) for command in commands]]

    def _look(self, command: tuple[Any, ...]) -> asyncio.Future[Any]:
        asked = self._looks.get(command)
        if asked is None:
            asked = self._looks[command] = _Asked(command, {}, [])
            return self._ask(asked)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asked.answers.append(answer)
        return answer

    def _ask(self, asked: _Asked) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asked.answers.append(answer)
        self._asked.append(asked)
        if self._carrying is None or self._carrying.done():
            self._carrying = asyncio.create_task(self._carry())
        return answer

    async def _carry(self) -> None:
        while self._asked:
            batch = [self._asked.popleft() for _ in range(min(len(self._asked), MAX_TOGETHER))]
            self._looks.clear()  # what is asked from here on is asked anew
            try:
                async with asyncio.timeout(ANSWERS_WITHIN_S):
                    found = await self._answers(batch)
            except TimeoutError:
                found = [RedisTimeoutError("Redis did not answer in time.")] * len(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to each of them
                found = [error] * len(batch)
            for asked, it in zip(batch, found, strict=True):
                for answer in asked.answers:
                    _give(answer, it)

    async def _probe(self) -> None:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            await super().execute_command("PING")  # type: ignore[no-untyped-call]

    async def _answers(self, batch: list[_Asked]) -> list[Any]:
        if len(batch) == 1:
            [(command, options, _)] = batch
            return [await super().execute_command(*command, **options)]  # type: ignore[no-untyped-call]
        async with self.pipeline(transaction=False) as pipe:
            for command, options, _ in batch:
                pipe.execute_command(*command, **options)
            return await pipe.execute(raise_on_error=False)


def _give(answer: asyncio.Future[Any], found: Any) -> None:
    if answer.done():
        return  # whoever asked has gone
    if isinstance(found, Exception):
        answer.set_exception(found)
        answer.exception()  # looked at, even if whoever asked looks at none after the first that failed
    else:
        answer.set_result(found)
