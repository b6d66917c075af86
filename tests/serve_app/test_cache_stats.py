"""What all replicas did, whichever replica is asked."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.memory import MemoryClock, MemoryCounts
from domain.replica_counts import CacheCounts, RelayCounts, ReplicaCounts
from serve_app import metering
from serve_app.cache import CACHE_NAMES, Caches
from serve_app.metering import Meter, exposition
from tests.serve_app.test_cache import ScriptedWatch
from tests.serve_app.web import GUILD, Web

Sample = tuple[str, str, str]


def config(counts: CacheCounts) -> ReplicaCounts:
    return ReplicaCounts({"config": counts})


def meter_of(replica: str, caches: Caches, board: MemoryCounts) -> Meter:
    return Meter(replica, lambda: ReplicaCounts(caches.counts()), board)


async def ask(caches: Caches, times: int = 1) -> None:
    async def load() -> str:
        return "answer"

    for _ in range(times):
        await caches.get("config", GUILD, "config", load)


def samples(text: str) -> dict[Sample, float]:
    """Return what Prometheus reads of caches: by name, cache and replica."""
    return {
        (sample.name, sample.labels["cache"], sample.labels["replica"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "cache" in sample.labels
    }


async def test_operators_see_all_replicas_and_their_sum(web: Web) -> None:
    """With the share of questions that cost nothing, as far as there were any."""
    await web.counts.exchange("other", config(CacheCounts(hits=5, misses=1, shared=2, entries=3)))
    await ask(web.caches)
    answer = await (await web.browser_of_role("operator")).get("/api/cache/stats")
    assert answer.status_code == 200, answer.text
    stats = answer.json()
    assert stats["complete"] is True
    assert [replica["id"] for replica in stats["replicas"]] == ["other", "replica"]
    assert stats["replicas"][1]["caches"].keys() == set(CACHE_NAMES)
    assert stats["replicas"][1]["caches"]["users"]["hit_rate"] is None
    assert stats["total"]["config"] == {
        "hits": 5,
        "misses": 2,
        "shared": 2,
        "failures": 0,
        "invalidations": 0,
        "entries": 3,
        "hit_rate": round(7 / 9, 4),
    }


async def test_without_the_board_a_replica_answers_for_itself(web: Web) -> None:
    """And says that the others are missing."""
    await web.counts.exchange("other", config(CacheCounts(hits=5)))
    web.counts.available = False
    stats = (await (await web.browser_of_role("operator")).get("/api/cache/stats")).json()
    assert (stats["complete"], [replica["id"] for replica in stats["replicas"]]) == (False, ["replica"])
    scraped = await web.browser.get("/metrics")
    assert {replica for _, _, replica in samples(scraped.text)} == {"replica"}


async def test_prometheus_reads_every_count(web: Web) -> None:
    """Under its usual names, with cache and replica as labels, and nothing else."""
    counts = CacheCounts(hits=1, misses=2, shared=3, failures=4, invalidations=5, entries=6)
    await web.counts.exchange("other", config(counts))
    answer = await web.browser.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    assert {
        name: value for (name, cache, of), value in found.items() if (cache, of) == ("config", "other")
    } == {
        "guildhall_cache_hits_total": 1,
        "guildhall_cache_misses_total": 2,
        "guildhall_cache_shared_total": 3,
        "guildhall_cache_failures_total": 4,
        "guildhall_cache_invalidations_total": 5,
        "guildhall_cache_entries": 6,
    }
    assert {cache for _, cache, of in found if of == "replica"} == set(CACHE_NAMES)
    openmetrics = await web.browser.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


async def test_prometheus_reads_of_relays(web: Web) -> None:
    """What each holds and did; who asks for the caches is shown no relay."""
    relay = RelayCounts({"transport": 7, "asgi": 1}, 9, 10, 2**40, {"4008": 2, "1012": 3}, 4, 5, 6, 7, 8, 250)
    await web.counts.exchange("r1", ReplicaCounts(relay=relay, ailing=("hub: settle",), blocked_ms=750))
    await web.counts.exchange("r2", ReplicaCounts(relay=RelayCounts()))
    answer = await web.browser.get("/metrics")
    of = {"replica": "r1"}
    found = [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.labels["replica"] == "r1"
    ]
    assert found == [
        ("guildhall_relay_sockets", of | {"path": "transport"}, 7),
        ("guildhall_relay_sockets", of | {"path": "asgi"}, 1),
        ("guildhall_relay_subscriptions", of, 9),
        ("guildhall_relay_frames_total", of, 10),
        ("guildhall_relay_bytes_total", of, 2**40),
        ("guildhall_relay_authority_changes_total", of, 5),
        ("guildhall_relay_authority_looks_total", of, 6),
        ("guildhall_relay_authority_unknown_total", of, 7),
        ("guildhall_relay_revocations_total", of, 8),
        ("guildhall_relay_revocation_slowest_seconds", of, 0.25),
        ("guildhall_relay_closed_total", of | {"code": "4008"}, 2),
        ("guildhall_relay_closed_total", of | {"code": "1012"}, 3),
        ("guildhall_relay_host_streams", of, 4),
        ("guildhall_replica_ailing_tasks", of, 1),
        ("guildhall_replica_loop_blocked_seconds", of, 0.75),
    ]
    assert 'guildhall_relay_frames_total{replica="r2"} 0' in answer.text
    stats = (await (await web.browser_of_role("operator")).get("/api/cache/stats")).json()
    assert [replica["id"] for replica in stats["replicas"]] == ["replica"]


async def test_no_scrape_sees_a_counter_go_back() -> None:
    """Each scrape meets another replica, and what one has shown the other does not show smaller."""
    clock, board = MemoryClock(), MemoryCounts()
    replicas = [Caches(clock, ScriptedWatch()) for _ in range(3)]
    meters = [meter_of(f"r{number}", caches, board) for number, caches in enumerate(replicas)]
    seen: dict[Sample, float] = {}
    for number in range(12):
        await ask(replicas[(number * 5) % 3], times=number)
        body, _ = exposition(await meters[number % 3].counted(), None)
        found = {key: value for key, value in samples(body.decode()).items() if key[0].endswith("_total")}
        assert all(found[key] >= value for key, value in seen.items())
        seen = found
    assert len({replica for _, _, replica in seen}) == 3


async def test_a_replica_that_nobody_asks_is_seen_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes by itself, also again after the board was away; and no more once it is stopped."""
    monkeypatch.setattr(metering, "WRITE_EVERY_S", 0.001)
    board = MemoryCounts()
    board.available = False
    caches = Caches(MemoryClock(), ScriptedWatch())
    meter = meter_of("quiet", caches, board)
    meter.start()
    await asyncio.sleep(0)
    board.available = True
    await ask(caches)
    written = CacheCounts(misses=1, entries=1)
    async with asyncio.timeout(5):
        while True:
            everybody = await board.exchange("asks", ReplicaCounts())
            if "quiet" in everybody and everybody["quiet"].caches["config"] == written:
                break
            await asyncio.sleep(0.001)
    await meter.stop()
    assert len(meter._tasks) == 0


async def test_a_ping_needs_nothing(web: Web) -> None:
    """No session, no database, nothing that may be away."""
    web.sessions.available = web.database.available = web.counts.available = False
    answer = await web.browser.get("/api/ping")
    assert (answer.status_code, answer.json()) == (200, {"alive": True})
