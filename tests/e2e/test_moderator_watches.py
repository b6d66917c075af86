"""What a person does: log in by clicking, choose a server, and watch it live."""

from __future__ import annotations

import statistics

import asyncpg
from playwright.async_api import Page, expect

from guildhall.testing import DemoProcess, Sim
from tests.waiting import eventually

ROW = "[data-testid=violation]"


async def log_in(page: Page, stack: DemoProcess, name: str) -> None:
    await page.goto(stack.url)
    await page.get_by_text("Log in with Discord").click()
    await page.get_by_role("button", name=f"Continue as {name}").click()
    await expect(page.get_by_role("heading", name="Your servers")).to_be_visible()


async def open_server(page: Page, guild_id: str) -> None:
    await page.locator(f"a[href='/servers/{guild_id}']").first.click()
    await expect(page.locator("[data-testid=connection]")).to_have_attribute("data-state", "live")


async def test_a_bad_message_appears_by_itself_and_nothing_is_lost_when_the_gateway_drops(
    page: Page, stack: DemoProcess, sim: Sim, database: asyncpg.Connection
) -> None:
    """A row appears without a reload, within 500 ms of its commit; a dropped gateway loses none."""
    guild = await sim.guild(5)
    await log_in(page, stack, "owner")
    await open_server(page, guild["id"])
    await page.evaluate("window.stillTheSamePage = true")

    delays_ms = []
    for number in range(5):
        text = f"claim {number} at https://free-nitro-claim.xyz/"
        message = await sim.post("messages", guild_id=guild["id"], content=text)
        row = page.locator(ROW, has_text=f"claim {number} at")
        await expect(row).to_be_visible()
        await expect(row).to_contain_text(message["author"]["username"])
        rendered = float(await row.get_attribute("data-rendered-at") or "nan")
        committed = float(await row.get_attribute("data-committed-at") or "nan")
        delays_ms.append(rendered - committed)
    assert 0 <= statistics.median(delays_ms) < 500, delays_ms

    await sim.post("faults", kind="drop_gateway", hold_ms=500)
    for number in range(5):
        await sim.post("messages", guild_id=guild["id"], content=f"while away {number}: discord.gg/abcdef")
    for number in range(5):
        await expect(page.locator(ROW, has_text=f"while away {number}")).to_have_count(1, timeout=60_000)

    shown = [await row.get_attribute("data-violation-id") for row in await page.locator(ROW).all()]
    stored = await database.fetch(
        "SELECT event_id FROM violations WHERE guild_id = $1 ORDER BY ts DESC, message_id DESC",
        int(guild["id"]),
    )
    assert shown == [str(row["event_id"]) for row in stored]
    assert await page.evaluate("window.stillTheSamePage") is True


async def test_counters_move_and_deletions_are_told(page: Page, stack: DemoProcess, sim: Sim) -> None:
    """The counters go up without a reload, and a row says when its message is gone from Discord."""
    guild = await sim.guild(6)
    await log_in(page, stack, "owner")
    await open_server(page, guild["id"])
    counter = page.locator("[data-testid=counter-messages]")
    await expect(counter).not_to_contain_text("loading")
    before = int((await counter.inner_text()).split()[0].replace(",", ""))
    await sim.post("messages", guild_id=guild["id"], content="hello everybody")
    await sim.post("messages", guild_id=guild["id"], content="come to discord.gg/another")

    async def counted() -> bool:
        return int((await counter.inner_text()).split()[0].replace(",", "")) == before + 2

    assert await eventually(counted)
    await expect(page.locator(ROW, has_text="come to").first).to_contain_text("Deleted")


async def test_what_people_type_is_text(page: Page, stack: DemoProcess, sim: Sim) -> None:
    """Markup in a message is shown as it was typed and does nothing."""
    guild = await sim.guild(7)
    await log_in(page, stack, "owner")
    await open_server(page, guild["id"])
    hostile = "<img src=x onerror=\"document.title='owned'\"> discord.gg/hostile"
    await sim.post("messages", guild_id=guild["id"], content=hostile)
    await expect(page.locator(ROW, has_text="<img src=x")).to_be_visible()
    assert await page.title() != "owned"
    assert await page.locator(f"{ROW} img[src=x]").count() == 0


async def test_what_people_type_stays_in_its_line(page: Page, stack: DemoProcess, sim: Sim) -> None:
    """It turns no line around and covers none, and shows nobody's card; at any width."""
    guild = await sim.guild(7)
    await log_in(page, stack, "owner")
    await open_server(page, guild["id"])
    hostile = "\u202egpj.exe H" + "\u0301" * 80 + "e 4111 1111 1111 1111 discord.gg/turned"
    await sim.post("messages", guild_id=guild["id"], content=hostile)
    row = page.locator(ROW, has_text="discord.gg/turned")
    await expect(row.locator(".excerpt bdi")).to_have_text(
        "[U+202E]gpj.exe H" + "\u0301" * 3 + "e ••• discord.gg/turned"
    )
    for width in (1280, 360):
        await page.set_viewport_size({"width": width, "height": 740})
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        assert (
            await row.evaluate("row => getComputedStyle(row.querySelector('bdi')).unicodeBidi") == "isolate"
        )


async def test_an_address_with_an_id_that_is_none_says_so(page: Page, stack: DemoProcess, sim: Sim) -> None:
    """Instead of connecting for ever; it asks neither the API nor the stream about it."""
    guild = await sim.guild(7)
    await log_in(page, stack, "owner")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    for wrong in (f"0{guild['id']}", "99999999999999999999", "0", "9223372036854775808"):
        await page.goto(f"{stack.url}/servers/{wrong}")
        await expect(page.get_by_text("There is nothing at this address")).to_be_visible()
    assert not [url for url in asked if "/ws" in url or "/violations" in url or "/metrics" in url]


async def test_the_page_works_on_a_phone(page: Page, stack: DemoProcess, sim: Sim) -> None:
    """At 360 pixels nothing is cut off, and the list is live there too."""
    guild = await sim.guild(5)
    await page.set_viewport_size({"width": 360, "height": 740})
    await log_in(page, stack, "admin")
    await open_server(page, guild["id"])
    await sim.post("messages", guild_id=guild["id"], content="on a phone: discord.gg/phone")
    await expect(page.locator(ROW, has_text="on a phone").first).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") == 360


async def test_logging_out_shows_the_door(page: Page, stack: DemoProcess) -> None:
    """After logging out, the page offers to log in and knows nothing any more."""
    await log_in(page, stack, "viewer")
    await page.get_by_role("button", name="viewer").first.click()
    await page.get_by_role("button", name="Log out").or_(page.get_by_role("menuitem", name="Log out")).click()
    await expect(page.get_by_text("Log in with Discord")).to_be_visible()
    await page.goto(stack.url)
    await expect(page.get_by_text("Log in with Discord")).to_be_visible()
