"""The people and servers of the simulated Discord, the same on every start with the same seed."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import names
from .snowflake import shard_of, snowflake

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_CLIENT_ID = 1_180_000_000_000_000_001
# A multiple of 1…10, 12, 14, 15 and 16: guild i lands on shard i mod n for all of these shard counts.
_SHARD_CYCLE_MS = 5_040
_YEAR_2016_MS, _YEAR_2018_MS, _YEAR_2024_MS = 1_451_606_400_000, 1_514_764_800_000, 1_704_067_200_000
_MIN_MEMBERS, _MAX_MEMBERS = 20, 400
_OWNED, _ADMINISTERED, _JOINED = 12, 8, 5

ADMINISTRATOR = 1 << 3
ALL_PERMISSIONS = (1 << 53) - 1
_EVERYONE_BITS = (
    0,
    6,
    10,
    11,
    14,
    15,
    16,
    18,
    20,
    21,
    25,
    26,
    31,
)  # view, send, react, voice, commands: a new server's
EVERYONE_PERMISSIONS = sum(1 << bit for bit in _EVERYONE_BITS)
_BOT_BITS = (1, 2, 4, 7, 13, 17, 40)  # kick, ban, channels, audit log, messages, @everyone, timeouts
BOT_PERMISSIONS = EVERYONE_PERMISSIONS | sum(1 << bit for bit in _BOT_BITS)


@dataclass(slots=True)
class User:
    """An account."""

    id: int
    username: str
    global_name: str | None
    bot: bool = False


@dataclass(slots=True)
class Role:
    """A role of a guild; @everyone has the guild's own id."""

    id: int
    name: str
    permissions: int
    position: int
    color: int = 0
    bot_id: int | None = None


@dataclass(slots=True)
class Channel:
    """A channel of a guild: text, or the category it stands in."""

    id: int
    guild_id: int
    name: str
    position: int
    topic: str | None = None
    parent_id: int | None = None
    is_category: bool = False


@dataclass(slots=True)
class Member:
    """A user in a guild."""

    user: User
    joined_at_ms: int
    role_ids: tuple[int, ...] = ()
    nick: str | None = None


@dataclass(slots=True)
class Guild:
    """A server: its channels, roles and members."""

    id: int
    name: str
    owner_id: int
    roles: dict[int, Role] = field(default_factory=dict)
    channels: list[Channel] = field(default_factory=list)
    members: dict[int, Member] = field(default_factory=dict)
    has_bot: bool = True

    @property
    def text_channels(self) -> list[Channel]:
        """The channels one can write in."""
        return [channel for channel in self.channels if not channel.is_category]

    def permissions_of(self, user_id: int) -> int:
        """Return a member's permissions in the whole guild, as Discord computes them."""
        if user_id == self.owner_id:
            return ALL_PERMISSIONS
        granted = self.roles[self.id].permissions
        for role_id in self.members[user_id].role_ids:
            granted |= self.roles[role_id].permissions
        return ALL_PERMISSIONS if granted & ADMINISTRATOR else granted


class World:
    """Everything there is; built by `build_world`, changed by the simulation only."""

    def __init__(self, *, bot: User, application_id: int, people: dict[str, User]) -> None:
        self.bot = bot
        self.application_id = application_id
        self.people = people
        self.users: dict[int, User] = {bot.id: bot} | {user.id: user for user in people.values()}
        self.guilds: dict[int, Guild] = {}
        self.channels: dict[int, Channel] = {}
        # Servers that exist but never invited the bot: everybody has some.
        self.elsewhere: dict[int, Guild] = {}

    def add_guild(self, guild: Guild) -> None:
        """Put a guild on the map."""
        if not guild.has_bot:
            self.elsewhere[guild.id] = guild
            return
        self.guilds[guild.id] = guild
        self.channels.update((channel.id, channel) for channel in guild.channels)

    def shard_guild_ids(self, shard_id: int, shard_count: int) -> list[int]:
        """Return the guilds one shard hears about, in their fixed order."""
        return [guild_id for guild_id in self.guilds if shard_of(guild_id, shard_count) == shard_id]

    def guilds_of(self, user_id: int) -> list[Guild]:
        """Return all guilds a user is in, those without the bot included, by id as Discord lists them."""
        everywhere = itertools.chain(self.guilds.values(), self.elsewhere.values())
        return sorted((guild for guild in everywhere if user_id in guild.members), key=lambda guild: guild.id)


def build_world(
    *, seed: int, guilds: int, client_id: int = DEFAULT_CLIENT_ID, bot_name: str = "Guildhall"
) -> World:
    """Make a world of so many guilds; the same arguments give the same ids, names and members."""
    rng = random.Random(f"world:{seed}")
    bot = User(client_id, bot_name, None, bot=True)
    people = {
        name: User(_user_id(rng), name, display_name) for name, (display_name, _) in names.PEOPLE.items()
    }
    world = World(bot=bot, application_id=client_id, people=people)
    crowd = _crowd(rng, min(6_000, 600 + 12 * guilds))
    world.users.update((user.id, user) for user in crowd)
    base_ms = sorted(
        rng.sample(range(_YEAR_2018_MS // _SHARD_CYCLE_MS, _YEAR_2024_MS // _SHARD_CYCLE_MS), guilds + 1)
    )
    # Old and new servers mixed, so that the order of ids says nothing about size.
    rng.shuffle(base_ms)
    guild_names = _guild_names(rng)
    for index in range(guilds):
        ms = base_ms[index] * _SHARD_CYCLE_MS
        # The cycle counts from Discord's epoch, as (id >> 22) does.
        ms += (index - (snowflake(ms) >> 22)) % _SHARD_CYCLE_MS
        # A generator for each guild: what happens in one does not shift the others.
        own = random.Random(f"guild:{seed}:{index}")
        world.add_guild(_guild(world, crowd, index, ms, name=next(guild_names), rng=own))
    world.add_guild(_elsewhere(world, crowd, base_ms[guilds] * _SHARD_CYCLE_MS))
    return world


def _guild(world: World, crowd: list[User], index: int, ms: int, *, name: str, rng: random.Random) -> Guild:
    ids = (snowflake(ms + step, rng.randrange(1 << 12)) for step in itertools.count(1))
    people = world.people
    # Few large servers, many small ones; the first ones are the largest, as they are the busiest.
    size = int(_MIN_MEMBERS + (_MAX_MEMBERS - _MIN_MEMBERS) * rng.betavariate(2, 3 if index < _OWNED else 8))
    regulars = rng.sample(crowd, size)
    owner = people["owner"] if index < _OWNED else regulars[0]
    guild = Guild(snowflake(ms, rng.randrange(1 << 12)), name, owner.id)
    admin_role = _add_roles(guild, ids, world.bot, rng)
    _add_channels(guild, ids, rng)
    bot_role = next(role.id for role in guild.roles.values() if role.bot_id)
    _join(guild, world.bot, rng, ms, (bot_role,))
    _join(guild, owner, rng, ms)
    if index < _ADMINISTERED:
        _join(guild, people["admin"], rng, ms, (admin_role,))
    if index < _JOINED:
        for plain in ("moderator", "viewer", "outsider"):
            _join(guild, people[plain], rng, ms)
    spare = [
        role.id
        for role in guild.roles.values()
        if role.bot_id is None and role.id not in (guild.id, admin_role)
    ]
    for user in regulars:
        if user.id not in guild.members:
            given = tuple(rng.sample(spare, 1)) if rng.random() < 0.3 else ()  # noqa: PLR2004 - a share
            _join(guild, user, rng, ms, given)
    return guild


def _add_roles(guild: Guild, ids: Iterator[int], bot: User, rng: random.Random) -> int:
    guild.roles[guild.id] = Role(guild.id, "@everyone", EVERYONE_PERMISSIONS, 0)
    for position, (name, color) in enumerate(rng.sample(names.ROLE_NAMES, rng.randint(2, 4)), start=1):
        role = Role(next(ids), name, 0, position, color)
        guild.roles[role.id] = role
    top = len(guild.roles)
    admin_role = Role(next(ids), "Admin", ADMINISTRATOR, top, 0xE74C3C)
    bot_role = Role(next(ids), bot.username, BOT_PERMISSIONS, top + 1, 0x5865F2, bot.id)
    guild.roles |= {admin_role.id: admin_role, bot_role.id: bot_role}
    return admin_role.id


def _add_channels(guild: Guild, ids: Iterator[int], rng: random.Random) -> None:
    category = Channel(next(ids), guild.id, "Text channels", 0, is_category=True)
    general, *others = names.CHANNELS
    chosen = [general, *rng.sample(others, rng.randint(2, 7))]
    guild.channels.append(category)
    guild.channels += [
        Channel(next(ids), guild.id, name, position, topic, category.id)
        for position, (name, topic) in enumerate(chosen)
    ]


def _join(
    guild: Guild, user: User, rng: random.Random, since_ms: int, role_ids: tuple[int, ...] = ()
) -> None:
    joined_at_ms = rng.randrange(since_ms, _YEAR_2024_MS + 1)
    guild.members[user.id] = Member(user, joined_at_ms, role_ids)


def _elsewhere(world: World, crowd: list[User], ms: int) -> Guild:
    rng = random.Random(f"elsewhere:{ms}")
    guild = Guild(snowflake(ms, 1), "Neighbourhood Watch", crowd[0].id, has_bot=False)
    guild.roles[guild.id] = Role(guild.id, "@everyone", EVERYONE_PERMISSIONS, 0)
    for user in (crowd[0], *world.people.values()):
        _join(guild, user, rng, ms)
    return guild


def _crowd(rng: random.Random, count: int) -> list[User]:
    taken: set[str] = set(names.PEOPLE)
    crowd = []
    for index in range(count):
        username, global_name = _person(rng)
        while username in taken:
            username = f"{username}{rng.randrange(10)}"
        taken.add(username)
        if index < len(names.ODD_DISPLAY_NAMES):
            global_name = names.ODD_DISPLAY_NAMES[index]
        crowd.append(User(_user_id(rng), username, global_name))
    return crowd


def _person(rng: random.Random) -> tuple[str, str | None]:
    first = rng.choice(names.FIRST_NAMES)
    number = rng.choice(("", "", str(rng.randrange(10, 100)), str(rng.randrange(1985, 2010))))
    match rng.randrange(4):
        case 0:
            return (
                f"{first.lower()}{rng.choice(('_', '.', ''))}{rng.choice(names.HANDLE_SECOND)}{number}",
                first,
            )
        case 1:
            return f"{first.lower()}{number or rng.randrange(100)}", first
        case 2:
            handle = f"{rng.choice(names.HANDLE_FIRST)}{rng.choice(names.HANDLE_SECOND)}"
            return f"{handle}{number}", handle.capitalize()
        case _:
            return f"{rng.choice(names.HANDLE_FIRST)}.{rng.choice(names.HANDLE_SECOND)}{number}", None


def _guild_names(rng: random.Random) -> Iterator[str]:
    yield from names.GUILD_NAMES
    pairs = [f"{first} {second}" for first in names.GUILD_FIRST for second in names.GUILD_SECOND]
    rng.shuffle(pairs)
    yield from pairs
    for edition in itertools.count(2):
        yield from (f"{pair} {edition}" for pair in pairs)


def _user_id(rng: random.Random) -> int:
    return snowflake(rng.randrange(_YEAR_2016_MS, _YEAR_2024_MS), rng.randrange(1 << 17))
