"""A crowd: people who are logged in and may look at one guild, more of them than the local Discord has."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from adapters.clock import now_ms
from adapters.redis_sessions import RedisSessions
from adapters.role_store import PostgresRoleStore
from adapters.sealing import Sealer
from domain.events import UserRef
from domain.sessions import Session, SessionGuild
from guildhall.secret_keys import secret_keys
from guildhall.settings import load_settings
from serve_app.ports import WebSettings, session_cookie_name

_FIRST_PERSON = 7 * 10**17
_numbers = itertools.count()


async def log_in_crowd(data_dir: Path, guild_id: int, people: int) -> list[str]:
    """Log people in who are moderators of a guild; return what the browser of each sends as ``Cookie``.

    Their sessions and roles are written as a login and an owner's assignment leave them. Everybody is
    somebody new, however often this is called.
    """
    addresses: dict[str, Any] = json.loads((data_dir / "addresses.json").read_text(encoding="utf-8"))
    keys = secret_keys(load_settings(data_dir=data_dir), data_dir)
    sessions = RedisSessions(addresses["redis_url"], Sealer(keys), now_ms)
    roles = await PostgresRoleStore.open(addresses["database_url"])
    web = WebSettings(public_url=addresses["url"], static_dir=data_dir, invite_url="")
    name = session_cookie_name(web)
    try:
        cookies = []
        for number in itertools.islice(_numbers, people):
            user = UserRef(_FIRST_PERSON + number, f"watcher{number}", f"Watcher {number}")
            await roles.give(guild_id, user.user_id, "moderator")
            guild = SessionGuild(guild_id, "Watched", None, owns=False, permissions=0)
            token = await sessions.create(
                Session(user, (guild,), csrf_token="", created_at_ms=now_ms(), guilds_as_of_ms=now_ms())
            )
            cookies.append(f"{name}={token}")
        return cookies
    finally:
        await roles.close()
        await sessions.close()
