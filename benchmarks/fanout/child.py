"""A process of ours that is spoken to in lines of JSON: one a command, one an answer, and news in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any

from domain.errors import ServiceFailed

MAX_LINE_BYTES = 16 << 20
END_WITHIN_S = 20.0


class Child:
    """A module of this package in a process of its own. Commands are answered one after the other."""

    def __init__(self, process: Process, name: str, on_news: Callable[[dict[str, Any]], None]) -> None:
        self.pid = process.pid
        self._process = process
        self._name = name
        self._on_news = on_news
        self._answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read_forever(), name=f"read {name}")

    @classmethod
    async def start(
        cls,
        module: str,
        *arguments: str,
        on_news: Callable[[dict[str, Any]], None] = lambda _: None,
        **environment: str,
    ) -> Child:
        """Start ``python -m module``; what it says on standard error goes where ours does."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            stdin=PIPE,
            stdout=PIPE,
            limit=MAX_LINE_BYTES,
            env=os.environ | environment,
        )
        return cls(process, module.rpartition(".")[2], on_news)

    async def ask(self, do: str, within_s: float = 60.0, **what: Any) -> dict[str, Any]:
        """Give a command; return its answer.

        Raises:
            ServiceFailed: it cannot be done, or the process is gone, or it takes too long.

        """
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
        try:
            async with asyncio.timeout(within_s):
                answer = await self._answers.get()
        except TimeoutError:
            raise ServiceFailed(f"{self._name}: no answer to {do!r} within {within_s:g} s.") from None
        if answer is None:
            raise ServiceFailed(f"{self._name} ended by itself.")
        if "error" in answer:
            raise ServiceFailed(f"{self._name}: {answer['error']}")
        return answer

    async def stop(self) -> None:
        """End it: it leaves when nothing more can be asked."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._reading

    async def _read_forever(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if "news" in said:
                self._on_news(said)
            else:
                self._answers.put_nowait(said)
        self._answers.put_nowait(None)
