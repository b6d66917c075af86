"""Names and messages lose what nobody behind the adapters can store."""

from __future__ import annotations

import json
from types import SimpleNamespace

from adapters import discord_bot, discord_login
from adapters.discord_answers import Guild, User, read

BAD = "a\0b\ud800"
GOOD = "ab\ufffd"


def test_names_from_the_gateway() -> None:
    """Username and display name."""
    user = SimpleNamespace(id=1, name=BAD, display_name=BAD, avatar=None)
    found = discord_bot._user(user)  # type: ignore[arg-type]
    assert (found.username, found.display_name) == (GOOD, GOOD)


def test_messages_and_guilds_from_the_gateway() -> None:
    """Content, channel and guild names."""
    heard: list[object] = []
    handler = SimpleNamespace(on_message=lambda message, _: heard.append(message), on_event=heard.append)
    shard = SimpleNamespace(position=lambda: None)
    client = SimpleNamespace(_handler=handler, _hear=lambda _: shard)
    author = SimpleNamespace(id=1, name="n", display_name="n", avatar=None, bot=False)
    message = SimpleNamespace(
        guild=SimpleNamespace(id=1),
        channel=SimpleNamespace(id=2, name=BAD),
        id=3,
        author=author,
        webhook_id=None,
        content=BAD,
        mentions=[author, author],
        created_at=SimpleNamespace(timestamp=lambda: 1.5),
    )
    discord_bot._Client._message(client, message)  # type: ignore[arg-type]
    guild = SimpleNamespace(id=1, name=BAD, owner_id=None, icon=None, member_count=None)
    discord_bot._Client._describe(client, guild)  # type: ignore[arg-type]
    said, described = heard
    assert (said.content, said.channel_name, said.mentions, said.ts_ms) == (GOOD, GOOD, 1, 1500)  # type: ignore[attr-defined]
    assert (described.name, described.owner_id, described.member_count) == (GOOD, 0, 0)  # type: ignore[attr-defined]


def test_names_from_the_login() -> None:
    """A person's and their guilds'."""
    user = read(json.dumps({"id": "1", "username": BAD}).encode(), User)
    assert discord_login._user(user).display_name == GOOD
    guild = read(json.dumps({"id": "1", "name": BAD, "permissions": "8"}).encode(), Guild)
    assert discord_login._guild(guild).name == GOOD
