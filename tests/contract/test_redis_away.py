"""The HTTP application on a real Redis that is stopped, frozen and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from adapters.embedded_redis import EmbeddedRedis
from adapters.memory.samples import person
from adapters.rate_limiter import RedisRateLimiter
from adapters.redis_connection import connect
from adapters.redis_sessions import RedisSessions
from adapters.redis_together import ANSWERS_WITHIN_S
from adapters.sealing import Sealer, new_key
from domain.rates import Rates
from domain.sessions import Session
from serve_app.ports import ApiPorts
from serve_app.sessions import Sessions
from tests.serve_app.web import PLAIN, Web, membership
from tests.waiting import eventually

CSRF = {"x-csrf-token": "csrf-1"}
RATES = Rates(reads="40 per day", changes="100 per day", logins="100 per day", strangers="100 per day")


class WebOnRedis(Web):
    """The application with its sessions and rates in Redis, everything else on the twins."""

    def __init__(self, redis_url: str, static_dir: Path) -> None:
        super().__init__(PLAIN, static_dir)
        redis = connect(redis_url)  # shared, as in a replica
        self.kept = RedisSessions(redis, Sealer([new_key()]), self.clock)
        self.rates = RedisRateLimiter(redis, RATES)

    async def _open(self) -> ApiPorts:
        ports = await super()._open()
        return ports._replace(
            sessions=Sessions(self.kept, self.login, self.clock, monotonic_s=lambda: self.clock() / 1000),
            limiter=self.rates,
        )

    async def log_in(self, user_id: int = 1) -> httpx2.AsyncClient:
        """Return the browser of somebody who owns a guild."""
        session = Session(person(user_id), (membership(owns=True),), f"csrf-{user_id}", self.clock())
        return self.new_browser(await self.kept.create(session))


@pytest.fixture
async def web(redis: EmbeddedRedis, tmp_path: Path) -> AsyncIterator[WebOnRedis]:
    dist = tmp_path / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "index.html").write_text("<!doctype html>")
    web = WebOnRedis(redis.url, dist)
    async with web.app.router.lifespan_context(web.app), web.browser:
        yield web
    await web.kept.close()
    await web.rates.close()


def code_of(answer: httpx2.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("error_code")


async def back(web: WebOnRedis, browser: httpx2.AsyncClient) -> None:
    """Wait until sessions are looked up in Redis again."""

    async def well() -> bool:
        answer = await web.browser.get("/health")
        return bool(answer.json()["sessions"] == "ok")

    await eventually(well)
    assert (await browser.get("/api/auth/me")).status_code == 200


async def test_the_dashboard_reads_on_while_redis_is_away(redis: EmbeddedRedis, web: WebOnRedis) -> None:
    """Who was seen looks, nobody changes, logs in or is thrown out; with Redis back all is as before."""
    seen, unseen = await web.log_in(1), await web.log_in(2)
    assert (await seen.get("/api/auth/me")).status_code == 200
    await redis.stop()
    for path in ("/api/auth/me", "/api/servers", "/api/servers/40/metrics"):
        assert (await seen.get(path)).status_code == 200
    away = (503, "sessions_unavailable")
    assert code_of(await unseen.get("/api/auth/me")) == away
    assert code_of(await seen.post("/api/auth/logout", headers=CSRF)) == away
    assert code_of(await seen.post("/api/auth/logout-everywhere", headers=CSRF)) == away
    assert code_of(await web.browser.get("/api/auth/login")) == away
    assert (await web.browser.get("/")).status_code == 200
    health = await web.browser.get("/health")
    assert (health.status_code, health.json()["sessions"]) == (503, "away")
    await redis.start()
    await back(web, seen)
    assert (await unseen.get("/api/auth/me")).status_code == 200
    assert (await web.browser.get("/api/auth/login")).status_code == 307
    assert (await seen.post("/api/auth/logout", headers=CSRF)).status_code == 204
    assert (await seen.get("/api/auth/me")).status_code == 401


async def test_what_ended_stays_ended(redis: EmbeddedRedis, web: WebOnRedis) -> None:
    """A replica that ended a session lets it in neither while Redis is away nor afterwards."""
    browser = await web.log_in()
    await browser.get("/api/auth/me")
    await browser.post("/api/auth/logout", headers=CSRF)
    await redis.stop()
    assert (await browser.get("/api/auth/me")).status_code == 401
    await redis.start()
    assert (await browser.get("/api/auth/me")).status_code == 401


async def test_there_is_always_a_limit(redis: EmbeddedRedis, web: WebOnRedis) -> None:
    """While Redis is away the replica counts itself; what Redis counted holds again afterwards."""
    browser = await web.log_in()
    for _ in range(30):
        assert (await browser.get("/api/auth/me")).status_code == 200
    await redis.stop()
    went_on = [(await browser.get("/api/auth/me")).status_code for _ in range(60)]
    assert went_on == [200] * 40 + [429] * 20
    await redis.start()
    await back(web, browser)
    after = [(await browser.get("/api/auth/me")).status_code for _ in range(20)]
    assert after == [200] * 9 + [429] * 11


async def test_a_redis_that_hangs_is_waited_for_once(redis: EmbeddedRedis, web: WebOnRedis) -> None:
    """Frozen, it costs those who ask first about a second; whoever asks after that is answered at once."""
    browser = await web.log_in()
    await browser.get("/api/auth/me")
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        took: list[float] = []
        began = time.monotonic()
        while time.monotonic() - began < 4 or len(took) < 10:  # longer than several probes
            asked = time.monotonic()
            answers = await asyncio.gather(*(browser.get("/api/auth/me") for _ in range(3)))
            assert {answer.status_code for answer in answers} <= {200, 429}
            took.append(time.monotonic() - asked)
        assert took[0] < 2 * ANSWERS_WITHIN_S
        assert max(took[1:]) < ANSWERS_WITHIN_S / 2
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    await back(web, browser)


async def test_a_restart_logs_nobody_out(redis: EmbeddedRedis, web: WebOnRedis) -> None:
    """Sessions are on disk, and connections are made anew without anybody noticing."""
    browser = await web.log_in()
    assert (await browser.get("/api/auth/me")).status_code == 200
    await redis.stop()
    await redis.start()
    assert (await browser.post("/api/auth/logout", headers=CSRF)).status_code == 204
