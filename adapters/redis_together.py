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

MAX_TOGETHER = 100


class _Asked(NamedTuple):
    command: tuple[Any, ...]
    options: dict[str, Any]
    answer: asyncio.Future[Any]


class TogetherRedis(Redis):
    """Redis, for commands that do not block there: one that did would hold up all the others.

    A batch that fails, fails for all in it. Pipelines and subscriptions have connections of their own.
    """

    def __init__(self, **options: Any) -> None:
        """Take what ``Redis`` takes."""
        super().__init__(**options)
        self._asked: deque[_Asked] = deque()
        self._alike: dict[tuple[Any, ...], asyncio.Future[Any]] = {}
        """What was asked by ``together`` and is not sent yet."""
        self._carrying: asyncio.Task[None] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command with the next batch; return or raise its own answer."""
        return await self._ask(args, options)

    async def together(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands side by side that change nothing; return their answers, or raise the first failure.

        What several callers ask at once, a page that loads for instance, is sent once: as long as it has
        not been sent, its answer is as new for the last of them as for the first.
        """
        answers = [self._ask(command, {}, alike=True) for command in commands]
        await asyncio.wait(answers)
        return [answer.result() for answer in answers]

    def _ask(
        self, command: tuple[Any, ...], options: dict[str, Any], *, alike: bool = False
    ) -> asyncio.Future[Any]:
        if alike and (asked := self._alike.get(command)) is not None:
            return asked
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(command, options, answer))
        if alike:
            self._alike[command] = answer
        if self._carrying is None or self._carrying.done():
            self._carrying = asyncio.create_task(self._carry())
        return answer

    async def _carry(self) -> None:
        while self._asked:
            batch = [self._asked.popleft() for _ in range(min(len(self._asked), MAX_TOGETHER))]
            self._alike.clear()  # what is asked from here on is asked anew
            try:
                answers = await self._answers(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to each of them
                answers = [error] * len(batch)
            for asked, answer in zip(batch, answers, strict=True):
                if asked.answer.done():
                    continue  # whoever asked has gone
                if isinstance(answer, Exception):
                    asked.answer.set_exception(answer)
                    asked.answer.exception()  # looked at: whoever asked may have gone
                else:
                    asked.answer.set_result(answer)

    async def _answers(self, batch: list[_Asked]) -> list[Any]:
        if len(batch) == 1:
            [(command, options, _)] = batch
            return [await super().execute_command(*command, **options)]  # type: ignore[no-untyped-call]
        async with self.pipeline(transaction=False) as pipe:
            for command, options, _ in batch:
                pipe.execute_command(*command, **options)
            return await pipe.execute(raise_on_error=False)
