"""One suite for Discord as the one who knows its members' roles, against the local one, and for its twin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx2
import pytest

from adapters.discord_members import DiscordMembers
from adapters.memory import MemoryMembers
from domain.errors import DiscordBusy, DiscordUnavailable
from domain.roles import MemberSource


class Members(NamedTuple):
    """A source, and a guild with a member who has a role."""

    source: MemberSource
    guild_id: int
    user_id: int
    roles: frozenset[int]


def real(discord: dict[str, Any], **changes: str) -> DiscordMembers:
    given = {"api_base": f"{discord['url']}/api/v10", "token": discord["token"]}
    return DiscordMembers(**(given | changes))


async def ask(discord: dict[str, Any], path: str) -> Any:
    headers = {"Authorization": f"Bot {discord['token']}"}
    async with httpx2.AsyncClient() as client:
        return (await client.get(f"{discord['url']}{path}", headers=headers)).raise_for_status().json()


@pytest.fixture(params=["memory", "discord"])
async def members(request: pytest.FixtureRequest, discord: dict[str, Any]) -> AsyncIterator[Members]:
    if request.param == "memory":
        memory = MemoryMembers()
        memory.given[5, 6] = frozenset({77})
        yield Members(memory, 5, 6, frozenset({5, 77}))
        return
    world = await ask(discord, "/_sim/world")
    guild_id, user_id = world["guilds"][0]["id"], world["people"]["admin"]["id"]
    member = await ask(discord, f"/api/v10/guilds/{guild_id}/members/{user_id}")
    assert member["roles"]
    source = real(discord)
    yield Members(source, int(guild_id), int(user_id), frozenset({int(guild_id), *map(int, member["roles"])}))
    await source.close()


async def test_a_member_has_their_roles_and_everybodys(members: Members) -> None:
    """@everyone goes by the guild's own id."""
    assert await members.source.discord_roles(members.guild_id, members.user_id) == members.roles


async def test_who_is_no_member_has_none(members: Members) -> None:
    """Not even @everyone; in a guild that the bot is not in, nobody is."""
    assert await members.source.discord_roles(members.guild_id, 1) == frozenset()
    assert await members.source.discord_roles(1, members.user_id) == frozenset()


async def test_members_are_listed_from_an_id_on(members: Members) -> None:
    """With their roles; the last page says that it is the last."""
    page = await members.source.list_members(members.guild_id, members.user_id - 1)
    assert min(page.roles) == members.user_id
    assert page.roles[members.user_id] == members.roles
    after = await members.source.list_members(members.guild_id, max(page.roles))
    assert (after.roles, after.until) == ({}, None)


async def test_a_request_that_a_limit_refuses_is_not_sent(discord: dict[str, Any]) -> None:
    """Discord said of the one before that it was the last; other guilds have limits of their own."""
    guilds = [int(guild["id"]) for guild in (await ask(discord, "/_sim/world"))["guilds"]]
    source = real(discord)
    refused = (await ask(discord, "/_sim/stats"))["rate_limited"]
    for user_id in range(1, 6):
        await source.discord_roles(guilds[1], user_id)
    with pytest.raises(DiscordBusy) as told:
        await source.discord_roles(guilds[1], 6)
    assert not told.value.everywhere
    assert 0 < told.value.retry_after_s <= 1
    assert await source.discord_roles(guilds[2], 1) == frozenset()
    assert (await source.list_members(guilds[1], 0)).roles
    assert (await ask(discord, "/_sim/stats"))["rate_limited"] == refused
    await source.close()


async def test_what_goes_wrong_with_discord_is_told_apart(discord: dict[str, Any]) -> None:
    """A wrong token, nobody there, nonsense and a broken server are no answer; a limit says how long."""
    guild_id = int((await ask(discord, "/_sim/world"))["guilds"][0]["id"])
    wrong = (
        real(discord, token="wrong"),
        real(discord, api_base="http://127.0.0.1:9"),
        real(discord, api_base=f"{discord['url']}/_sim/stats?"),
    )
    for source in wrong:
        with pytest.raises(DiscordUnavailable):
            await source.discord_roles(guild_id, 6)
        await source.close()
    source = real(discord)
    for fault, problem in (
        ({"kind": "server_error", "status": 502}, DiscordUnavailable),
        ({"kind": "rate_limit", "retry_after_s": 2.5, "scope": "global"}, DiscordBusy),
    ):
        async with httpx2.AsyncClient() as client:
            body = fault | {"path": f"/guilds/{guild_id}/members/"}
            (await client.post(f"{discord['url']}/_sim/faults", json=body)).raise_for_status()
        with pytest.raises(problem) as raised:
            await source.discord_roles(guild_id, 6)
        if isinstance(raised.value, DiscordBusy):
            assert (raised.value.retry_after_s, raised.value.everywhere) == (2.5, True)
    await source.close()


async def test_a_guilds_roles_are_listed(discord: dict[str, Any]) -> None:
    """@everyone among them; of a guild that the bot is not in, nobody can say."""
    guild = (await ask(discord, "/_sim/world"))["guilds"][0]
    source = real(discord)
    listed = await source.guild_roles(int(guild["id"]))
    assert int(guild["id"]) in listed
    with pytest.raises(DiscordUnavailable):
        await source.guild_roles(1)
    await source.close()
