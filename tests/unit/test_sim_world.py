"""The simulated world."""

from __future__ import annotations

from collections import Counter

import pytest

from discord_sim.snowflake import SnowflakeClock, shard_of, snowflake, timestamp_ms
from discord_sim.world import ADMINISTRATOR, ALL_PERMISSIONS, World, build_world


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(seed=1, guilds=40)


def identity(world: World) -> list[object]:
    return [
        (
            guild.id,
            guild.name,
            guild.owner_id,
            list(guild.members),
            [channel.id for channel in guild.channels],
        )
        for guild in world.guilds.values()
    ]


def test_the_same_seed_makes_the_same_world(world: World) -> None:
    """Ids, names, members and their order."""
    assert identity(build_world(seed=1, guilds=40)) == identity(world)
    assert identity(build_world(seed=2, guilds=40)) != identity(world)


def test_demo_people_have_the_parts_they_are_known_for(world: World) -> None:
    """Owner owns twelve, admin administers eight, the others are plain members of five."""
    people, guilds = world.people, list(world.guilds.values())
    assert [guild.owner_id == people["owner"].id for guild in guilds] == [True] * 12 + [False] * 28
    assert [people["admin"].id in guild.members for guild in guilds] == [True] * 8 + [False] * 32
    for plain in ("moderator", "viewer", "outsider"):
        assert [people[plain].id in guild.members for guild in guilds] == [True] * 5 + [False] * 35
        assert not guilds[0].permissions_of(people[plain].id) & ADMINISTRATOR
    assert guilds[0].permissions_of(people["admin"].id) == ALL_PERMISSIONS
    assert guilds[0].permissions_of(people["owner"].id) == ALL_PERMISSIONS


def test_guilds_look_like_guilds(world: World) -> None:
    """Three to eight channels, believable sizes, unique ids and names, the bot everywhere."""
    ids = Counter(
        each
        for guild in world.guilds.values()
        for each in (guild.id, *guild.roles, *(channel.id for channel in guild.channels))
    )
    # @everyone has the guild's id, nothing else is shared.
    assert {each for each, count in ids.items() if count > 1} == set(world.guilds)
    assert len({guild.name for guild in world.guilds.values()}) == 40
    for guild in world.guilds.values():
        assert 3 <= len(guild.text_channels) <= 8
        assert 20 <= len(guild.members) <= 410
        assert world.bot.id in guild.members
        assert 16 < len(str(guild.id)) < 20


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 8, 16])
def test_guilds_spread_evenly_over_shards(world: World, shards: int) -> None:
    """No shard has two guilds more than another, and the first five are not all on one."""
    counts = Counter(shard_of(guild_id, shards) for guild_id in world.guilds)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({shard_of(guild_id, shards) for guild_id in list(world.guilds)[:5]}) == min(shards, 5)
    on_shard = [guild_id for shard in range(shards) for guild_id in world.shard_guild_ids(shard, shards)]
    assert sorted(on_shard) == sorted(world.guilds)


def test_a_person_is_in_servers_the_bot_is_not_in(world: World) -> None:
    """Guild lists of people contain guilds the bot has never seen."""
    found = world.guilds_of(world.people["viewer"].id)
    assert [guild.has_bot for guild in found].count(False) == 1
    assert [guild.id for guild in found] == sorted(guild.id for guild in found)


def test_names_are_odd_where_real_ones_are(world: World) -> None:
    """Some names have markup, emoji or other scripts in them."""
    shown = {user.global_name for user in world.users.values()}
    assert {"<b>Bobby</b>", "まりも", "✨ luna ✨"} <= shown
    assert len({user.username for user in world.users.values()}) == len(world.users)


def test_an_empty_world_is_fine() -> None:
    """No guilds, still people."""
    assert build_world(seed=1, guilds=0).guilds == {}


def test_snowflakes_grow_even_when_the_clock_steps_back() -> None:
    """Two ids are never the same, and the time in them is right."""
    clock = SnowflakeClock()
    now_ms = 1_790_000_000_000
    first, second, third = clock.next(now_ms), clock.next(now_ms), clock.next(now_ms - 5_000)
    assert first < second < third
    assert timestamp_ms(first) == now_ms
    assert first == snowflake(now_ms)
