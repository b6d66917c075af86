"""The local Discord as a child process: what the demo runs on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import stamina

from adapters.child_process import ChildProcess
from domain.permissions import Role
from guildhall.settings import free_port

BOT_TOKEN = "demo-bot-token"  # noqa: S105 - opens nothing but a simulator on loopback
CLIENT_ID = "200000000000000001"
CLIENT_SECRET = "demo-client-secret"  # noqa: S105 - likewise

DEMO_ROLES: dict[str, Role] = {"moderator": "moderator", "viewer": "viewer"}
DEMO_GUILDS = 5
DEMO_OPERATOR = "owner"
"""In how many guilds the demo's moderator and viewer get their roles."""


class RoleToAssign(msgspec.Struct, frozen=True):
    """A role that a demo person gets at the start."""

    guild_id: int
    user_id: int
    role: Role


class Simulator:
    """Runs ``discord_sim`` on a free port of loopback, and dies with us."""

    def __init__(self, *, guilds: int, rate: float, log: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        options = {
            "--port": self.url.rpartition(":")[2],
            "--guilds": str(guilds),
            "--rate": str(rate),
            "--token": BOT_TOKEN,
            "--client-id": CLIENT_ID,
            "--client-secret": CLIENT_SECRET,
        }
        arguments = [part for option in options.items() for part in option]
        self._process = ChildProcess(
            "The local Discord", [sys.executable, "-m", "discord_sim", *arguments], log=log
        )

    async def start(self) -> None:
        """Start, and return when it answers."""
        await self._process.start()
        async for attempt in stamina.retry_context(
            on=httpx2.TransportError, timeout=30.0, attempts=None, wait_initial=0.05, wait_max=0.3
        ):
            with attempt:
                if not self._process.running:
                    raise self._process.failure("did not start")
                await self._get("/_sim/stats")

    async def roles(self) -> list[RoleToAssign]:
        """Return the roles that make the demo's people what their names say."""
        world = await self._get("/_sim/world")
        return [
            RoleToAssign(int(guild["id"]), int(world["people"][person]["id"]), role)
            for guild in world["guilds"][:DEMO_GUILDS]
            for person, role in DEMO_ROLES.items()
        ]

    async def operator(self) -> int:
        """Return the user id of the demo's person who operates the installation."""
        return int((await self._get("/_sim/world"))["people"][DEMO_OPERATOR]["id"])

    async def stop(self) -> None:
        """End it."""
        await self._process.stop(deadline_s=5)

    async def _get(self, path: str) -> Any:
        async with httpx2.AsyncClient() as client:
            response = await client.get(f"{self.url}{path}")
            return response.raise_for_status().json()
