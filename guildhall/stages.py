"""Tells a person at the terminal what is happening, and how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Stages:
    """Prints one line a stage. In JSON mode all of it goes to standard error."""

    def __init__(self, *, json: bool) -> None:
        self._console = Console(stderr=json, highlight=False, soft_wrap=True)
        self._started = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first stage began."""
        return time.perf_counter() - self._started

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Show that something is under way, and then how long it took."""
        started = time.perf_counter()
        with self._console.status(f"{what} …"):
            yield
        self._console.print(f"[green]✓[/] {what:<44} [dim]{time.perf_counter() - started:6.1f} s[/]")

    def say(self, line: str = "") -> None:
        """Print a line as it is; square brackets in it are markup."""
        self._console.print(line)
