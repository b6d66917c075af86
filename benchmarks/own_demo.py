"""A demo that a benchmark has for itself, as a user starts it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from domain.errors import ServiceFailed
from guildhall.testing import DemoProcess


@contextlib.contextmanager
def signals_cancel() -> Iterator[None]:
    """Have SIGINT and SIGTERM cancel the task that runs this, so that it ends what it started."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, lambda: task and task.cancel())
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def own_demo(*options: str, **environment: str) -> AsyncIterator[DemoProcess]:
    """Start a quiet demo on a data folder of its own, and stop it in order.

    Raises:
        ServiceFailed: it did not start, or its stop was no orderly one.

    """
    with signals_cancel(), tempfile.TemporaryDirectory(prefix="guildhall-bench-") as folder:
        demo = DemoProcess(Path(folder) / "data", "--rate", "0", *options, **environment)
        try:
            await asyncio.to_thread(demo.wait_ready)
            yield demo
            code, said = await asyncio.to_thread(demo.end)
            if code != 0:
                raise ServiceFailed(f"The demo ended with {code}: {said}")
        finally:
            demo.make_sure_it_ended()
