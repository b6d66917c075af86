"""Measures a message storm through a whole demo: all of it once, and a page that stays usable.

The demo runs in a process of its own on this machine; a moderator watches the busiest of their servers
in Chromium, and twelve sockets watch as many servers, while the local Discord posts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import asyncpg
import psutil

from benchmarks.memory import memory_by_kind
from benchmarks.own_demo import own_demo
from benchmarks.result import Result, percentile
from guildhall.testing import DemoProcess, Person, Sim, Watching

RATE = 500
GUILDS = 200
DRAIN_WITHIN_S = 120.0

_FRAMES_SCRIPT = """() => {
  window.frameGaps = [];
  let last = performance.now();
  const step = (now) => { window.frameGaps.push(now - last); last = now; requestAnimationFrame(step); };
  requestAnimationFrame(step);
}"""


async def run(*, seconds: float = 60.0, rate: float = RATE) -> Result:
    """Post ``rate`` messages a second for a while, let all of it arrive, and compare with what was posted."""
    async with own_demo("--guilds", str(GUILDS)) as demo:
        return Result("storm", await _storm(demo, seconds, rate))


async def _storm(demo: DemoProcess, seconds: float, rate: float) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as http,
        Person(demo.url) as owner,
        _page(demo.url) as page,
    ):
        sim = Sim(demo.sim_url, http)
        await owner.log_in("owner")
        servers = (await owner.get("/api/servers"))["data"]
        delays_ms: list[float] = []
        listeners = [asyncio.create_task(_listen(await owner.watch(), s["id"], delays_ms)) for s in servers]
        cpu = {process.pid: process for process in demo.descendants()}
        before_s = _cpu_seconds(cpu.values())
        memory_before = memory_by_kind(demo.pid)["total"]
        started = time.perf_counter()
        await sim.put("traffic", rate=rate)
        await asyncio.sleep(seconds)
        await sim.put("traffic", rate=0)
        lasted_s = time.perf_counter() - started
        busy_s = _cpu_seconds(cpu.values()) - before_s
        posted = await sim.posted_since(0)
        figures = await _compare(demo.database_url, posted)
        figures |= {
            "seconds": round(lasted_s, 1),
            "posted_per_s": round(len(posted) / lasted_s),
            "drained_after_s": round(time.perf_counter() - started - lasted_s, 2),
            "commit_to_socket_ms_p50": round(percentile(delays_ms, 0.5)),
            "commit_to_socket_ms_p99": round(percentile(delays_ms, 0.99)),
            "cores_busy": round(busy_s / lasted_s, 2),
            "memory_mb_before": memory_before,
            "memory_mb_after": memory_by_kind(demo.pid)["total"],
        }
        if page is not None:
            gaps = await page.evaluate("window.frameGaps")
            figures["page_frame_ms_p50"] = round(percentile(gaps, 0.5))
            figures["page_frame_ms_p99"] = round(percentile(gaps, 0.99))
            figures["page_connection"] = await page.get_attribute("[data-testid=connection]", "data-state")
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
        return figures


async def _compare(database_url: str, posted: list[dict[str, Any]]) -> dict[str, Any]:
    """Wait until every message is counted; then hold what is stored against what was posted."""
    offences = {int(entry["message_id"]): entry["label"] for entry in posted if entry["label"]}
    connection = await asyncpg.connect(database_url)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_WITHIN_S):
                while await _counted(connection) < len(posted):  # noqa: ASYNC110 - another process counts
                    await asyncio.sleep(0.1)
        rows = await connection.fetch("SELECT message_id, detection FROM violations")
        stored = {row["message_id"]: row["detection"] for row in rows}
        return {
            "messages_posted": len(posted),
            "messages_counted": await _counted(connection),
            "offences_posted": len(offences),
            "violations_stored": len(rows),
            "missing": len(offences.keys() - stored.keys()),
            "doubled": len(rows) - len(stored),
            "not_an_offence": len(stored.keys() - offences.keys()),
            "wrong_kind": sum(stored[key] != offences[key] for key in stored.keys() & offences.keys()),
        }
    finally:
        await connection.close()


async def _counted(connection: Any) -> int:
    return int(await connection.fetchval("SELECT coalesce(sum(messages), 0) FROM metrics_hourly"))


async def _listen(watching: Watching, guild_id: str, delays_ms: list[float]) -> None:
    await watching.subscribe(guild_id)
    while True:
        frame = await watching.socket.receive_json()
        now_ms = time.time() * 1000
        delays_ms.extend(
            now_ms - event["data"]["committed_at"]
            for event in frame.get("events", [])
            if event["type"] == "violation" and event["data"]["action_status"] == "pending"
        )


@contextlib.asynccontextmanager
async def _page(url: str) -> AsyncIterator[Any]:
    """Open the busiest server in a browser; without a browser the page's figures are left out."""
    chromium = os.environ.get("GUILDHALL_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        yield None
        return
    from playwright.async_api import async_playwright  # noqa: PLC0415 - only where there is a browser

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = await browser.new_page()
        await page.goto(url)
        await page.get_by_text("Log in with Discord").click()
        await page.get_by_role("button", name="Continue as owner").click()
        await page.locator("a[href^='/servers/']").first.click()
        await page.wait_for_selector("[data-testid=connection][data-state=live]")
        await page.evaluate(_FRAMES_SCRIPT)
        yield page
        await browser.close()


def _cpu_seconds(processes: Any) -> float:
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total
