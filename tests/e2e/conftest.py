"""A real browser. Where there is none, these tests are skipped; CI installs one and has them all."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright


def chromium() -> str:
    """Return Chromium's path: the one that ``make test`` found, or the one on PATH."""
    path = (
        os.environ.get("GUILDHALL_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )
    if not path:
        if os.environ.get("CI"):
            pytest.fail("CI has no Chromium: the browser tests must run there")
        pytest.skip("no Chromium on this machine: install it, or run `make test` as root")
    return path


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield running
        await running.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Open a window of its own; whatever it logs as an error fails the test, expected refusals aside."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    window = await context.new_page()
    window.set_default_timeout(20_000)
    problems: list[str] = []
    window.on("pageerror", lambda error: problems.append(str(error)))
    window.on(
        "console",
        lambda line: (
            problems.append(line.text) if line.type == "error" and " 401 " not in line.text else None
        ),
    )
    yield window
    await context.close()
    assert problems == []
