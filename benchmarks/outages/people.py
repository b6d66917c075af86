"""People of the local Discord who watch one guild, each with what makes them be let in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp

from benchmarks.outages import check
from benchmarks.watchers import LOOK_EVERY_S, Watcher, all_live, compare, in_background
from domain.errors import ServiceFailed
from domain.protocol import MAX_SOCKETS_PER_USER
from guildhall.live import FollowingEnded, Live, Reset, Update
from guildhall.testing import CROWD_AT_ONE_ADDRESS, DemoProcess, Person, Sim

WATCHING = ("owner", "admin", "moderator", "viewer")
"""Let in as Discord's owner, by ADMINISTRATOR, by an assignment, and by a role of Discord."""
OUTSIDER = "outsider"
MOST_WATCHERS = len(WATCHING) * (MAX_SOCKETS_PER_USER - 1)
"""Each has room for one more socket."""

SETTLED_WITHIN_S = 120.0
PROBE_EVERY_S = 1.0
TALK_ON_S = 5.0
"""What is said when all is well again must be stored like everything else."""
SHOWN_WRONG = ("missing", "doubled", "not_in_the_database", "out_of_order")
ROOM = {
    "GUILDHALL_LIMIT_READS": "100000 per second",
    "GUILDHALL_LIMIT_STRANGERS": "100000 per second",
    **CROWD_AT_ONE_ADDRESS,
}
"""All of them are one address."""


class Visitor(Watcher):
    """A watcher who notes being turned out, and how it came back."""

    turned_out: str | None = None
    first_back: str | None = None
    """After ``mark``: ``resumed`` or ``reloaded``."""

    async def watch(self) -> None:
        """Follow until cancelled, or until there is nothing to follow any more."""
        try:
            await super().watch()
        except FollowingEnded as ended:
            self.turned_out, self.live = ended.why, False

    def mark(self) -> None:
        """From now on note how it comes back."""
        self.first_back = None

    def _note(self, update: Update[Any]) -> None:
        super()._note(update)
        if self.first_back is None:
            match update:
                case Live(resumed=True):
                    self.first_back = "resumed"
                case Reset():
                    self.first_back = "reloaded"
                case _:
                    pass


class People:
    """Everybody who watches, and the owner who gives roles."""

    def __init__(self, sim: Sim, shards: int, guild_id: int, persons: dict[str, Person]) -> None:
        self.sim, self.shards, self.guild_id = sim, shards, guild_id
        self.persons = persons
        self.visitors: list[Visitor] = []

    async def change(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Let the owner change something of the guild."""
        owner = self.persons["owner"]
        headers = {"X-CSRF-Token": owner.csrf_token}
        return await owner.ask(method, f"/api/servers/{self.guild_id}/{path}", headers=headers, **options)

    def turned_out(self) -> int:
        """Return how many were sent away."""
        return sum(each.turned_out is not None for each in self.visitors)

    def closed(self) -> Counter[str]:
        """Return how often their sockets ended, by close code."""
        seen = sum((each.seen for each in self.visitors), Counter[str]())
        return Counter({name: number for name, number in seen.items() if name.startswith("closed_")})


@asynccontextmanager
async def people(demo: DemoProcess, watchers: int) -> AsyncIterator[People]:
    """Let so many watch the first guild until the block ends; all are live when it begins."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        sim = Sim(demo.sim_url, http)
        guild_id = int((await sim.guild(0))["id"])
        persons = {
            name: await (await stack.enter_async_context(Person(demo.url))).log_in(name)
            for name in (*WATCHING, OUTSIDER)
        }
        shards = len((await sim.get("stats"))["shards_connected"])
        crowd = People(sim, shards, guild_id, persons)
        await _map_viewer(crowd)
        await _until_let_in(crowd)
        for number in range(min(watchers, MOST_WATCHERS)):
            name = WATCHING[number % len(WATCHING)]
            crowd.visitors.append(Visitor(demo.url, guild_id, cookie_of(persons[name]), http))
        async with in_background(*(visitor.watch() for visitor in crowd.visitors)):
            await all_live([*crowd.visitors])
            yield crowd


async def _map_viewer(crowd: People) -> None:
    """Let the viewer be one by a role of Discord instead of an assignment."""
    guild_id, viewer = str(crowd.guild_id), crowd.persons["viewer"].user_id
    role = (await crowd.sim.put("roles", guild_id=guild_id, name="Watchers"))["id"]
    await crowd.sim.put("members", guild_id=guild_id, user_id=viewer, role_ids=[role])
    status, body = await crowd.change("PUT", f"role-mappings/{role}", json={"role": "viewer"})
    if status == 200:  # noqa: PLR2004
        status, body = await crowd.change("DELETE", f"roles/{viewer}")
    if status != 204:  # noqa: PLR2004
        raise ServiceFailed(f"The viewer's role was not mapped: {body}")


async def _until_let_in(crowd: People) -> None:
    async with asyncio.timeout(SETTLED_WITHIN_S):
        for name in WATCHING:
            person = crowd.persons[name]
            path = f"/api/servers/{crowd.guild_id}/violations"
            while (await person.ask("GET", path))[0] != 200:  # noqa: PLR2004, ASYNC110 - another process
                await asyncio.sleep(LOOK_EVERY_S)


def cookie_of(person: Person) -> str:
    """Return what the person's browser sends."""
    return "; ".join(f"{morsel.key}={morsel.value}" for morsel in person.http.cookie_jar)


async def settle(database_url: str, sim: Sim) -> tuple[dict[str, Any], float]:
    """Let people fall silent after a while, and wait until nothing is missing but what is told, if ever.

    Returns:
        The figures of :func:`benchmarks.outages.check.hold`, and the seconds that it took.

    """
    await asyncio.sleep(TALK_ON_S)
    await sim.put("traffic", rate=0)
    began = time.monotonic()
    posted = check.parse(await sim.posted_since(0))
    figures: dict[str, Any] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLED_WITHIN_S):
            while not figures or any(figures[name] for name in check.WRONG):
                await asyncio.sleep(LOOK_EVERY_S * 5)
                figures = check.hold(posted, await check.read(database_url))
    took_s = time.monotonic() - began
    await asyncio.sleep(2.0)  # what would be too many comes now
    return check.hold(posted, await check.read(database_url)), took_s


async def until_whole(crowd: People, within_s: float) -> float | None:
    """Post offences until one reaches everybody who watches, and all shards are back; return the seconds.

    None, if that takes longer than ``within_s``.
    """
    began, ids = time.monotonic(), set[str]()
    due = began
    while (now := time.monotonic()) - began < within_s:
        if now >= due:
            due = now + PROBE_EVERY_S
            ids |= await _probe(crowd, len(ids))
        seen = [
            {each.message_id for each in visitor.shown} & ids for visitor in crowd.visitors if visitor.live
        ]
        everybody = len(seen) == len(crowd.visitors) - crowd.turned_out()
        if everybody and set.intersection(ids, *seen) and await _connected(crowd.sim) >= crowd.shards:
            return time.monotonic() - began
        await asyncio.sleep(LOOK_EVERY_S)
    return None


async def _connected(sim: Sim) -> int:
    try:
        return len((await sim.get("stats"))["shards_connected"])
    except aiohttp.ClientError:
        return 0


async def _probe(crowd: People, number: int) -> set[str]:
    link = f"https://dlscord-gifts.com/{time.time_ns()}"
    try:
        posted = await crowd.sim.post(
            "messages",
            guild_id=str(crowd.guild_id),
            content=f"free nitro, number {number}: {link}",
            label="phishing_link",
        )
    except aiohttp.ClientError:  # the local Discord is not back yet
        return set()
    return {posted["id"]}


async def shown_wrong(database_url: str, crowd: People) -> dict[str, Any]:
    """Hold what everybody sees, who was not sent away, against the database."""
    staying: list[Watcher] = [each for each in crowd.visitors if each.turned_out is None]
    compared = await compare(database_url, crowd.guild_id, [], staying)
    return {f"shown_{name}": compared[name] for name in SHOWN_WRONG}
