"""The benchmark as a whole: who is measured, in which order, and what is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from benchmarks.fanout import nchan, node_ws
from benchmarks.fanout.audience import Audience
from benchmarks.fanout.idle import weigh_nchan_sockets, weigh_sockets_and_pace
from benchmarks.fanout.paced import pace, pace_beside
from benchmarks.fanout.saturating import Broadcaster, Contender
from benchmarks.fanout.slow import SLOW_SOCKETS, slow_readers
from benchmarks.fanout.subject import subject
from benchmarks.own_demo import signals_cancel
from benchmarks.result import Result

SHARED, UNSHARED = "shared_frames", "own_frames"
NO_TICK = "0"


class Plan(msgspec.Struct, frozen=True):
    """How much is measured."""

    sockets: int = 500
    seconds: float = 4.0
    """How long a turn lasts in which as much is sent as goes."""
    rounds: int = 3
    paced_seconds: float = 20.0
    many: int = 5_000
    """Sockets that are weighed, and hear a few events a second. With 0 that is left out."""
    slow: int = SLOW_SOCKETS
    """Sockets that stop reading, of ``sockets``. With 0 that is left out."""
    without_sharing: bool = True
    """Measure a demo that gives each event a frame of its own, too."""


async def run(plan: Plan | None = None) -> Result:
    """Measure all there is to be measured, one thing after the other."""
    plan = plan or Plan()
    figures: dict[str, Any] = msgspec.to_builtins(plan)
    baseline: dict[str, Any] = {}
    for program in (nchan, node_ws):
        if not program.is_installed():
            figures[program.NAME] = "not installed"
    shared, ratio = await _with_sharing(plan)
    if plan.without_sharing:
        unshared, figures["own_frames_to_nchan"] = await _without_sharing(plan)
        shared |= unshared
    if plan.many and nchan.is_installed():
        with signals_cancel():
            async with nchan.nchan() as peer:
                baseline |= await weigh_nchan_sockets(peer, plan.many)
    for name, told in shared.items():
        (baseline if name.startswith((nchan.NAME, node_ws.NAME)) else figures)[name] = told
    return Result("fanout", figures, baseline, ratio)


async def _with_sharing(plan: Plan) -> tuple[dict[str, Any], float | None]:
    """Measure Guildhall as it is, and its peers beside it."""
    async with subject() as guildhall:
        figures: dict[str, Any] = {}
        if plan.many:
            figures |= await weigh_sockets_and_pace(guildhall, plan.many, plan.paced_seconds)
        figures |= await pace(guildhall, plan.sockets, 100, plan.paced_seconds)
        if (peer := next((one for one in (nchan, node_ws) if one.is_installed()), None)) is not None:
            starting = nchan.nchan() if peer is nchan else node_ws.node_ws()
            async with starting as running:
                for sockets, per_s in ((plan.sockets, 100), (plan.many, 4)):
                    if sockets:
                        figures |= await pace_beside(
                            guildhall, running, sockets, per_s, seconds=plan.paced_seconds, rounds=plan.rounds
                        )
        if plan.slow:
            figures |= await slow_readers(guildhall, plan.sockets, plan.slow)
        async with AsyncExitStack() as stack:
            contenders = [await stack.enter_async_context(_contender(SHARED, guildhall, plan.sockets))]
            for program, start in ((nchan, nchan.nchan), (node_ws, node_ws.node_ws)):
                if program.is_installed():
                    running = await stack.enter_async_context(start())
                    contender = _contender(program.NAME, running, plan.sockets)
                    contenders.append(await stack.enter_async_context(contender))
            return await _in_turns(contenders, plan, figures)


async def _without_sharing(plan: Plan) -> tuple[dict[str, Any], float | None]:
    """Measure what is left when each event is a frame by itself; nchan takes turns with it once more."""
    async with subject(GUILDHALL_LIVE_TICK_MS=NO_TICK) as guildhall, AsyncExitStack() as stack:
        contenders = [await stack.enter_async_context(_contender(UNSHARED, guildhall, plan.sockets))]
        if nchan.is_installed():
            running = await stack.enter_async_context(nchan.nchan())
            contender = _contender(f"{nchan.NAME}_beside_own_frames", running, plan.sockets)
            contenders.append(await stack.enter_async_context(contender))
        return await _in_turns(contenders, plan, {})


async def _in_turns(
    contenders: list[Contender], plan: Plan, figures: dict[str, Any]
) -> tuple[dict[str, Any], float | None]:
    """Let everybody take turns; return what is told, and how often nchan's speed the first one's is."""
    for contender in contenders:
        await contender.take_turn(plan.seconds / 2, counts=False)  # warms up
    for _ in range(plan.rounds):
        for contender in contenders:
            await contender.take_turn(plan.seconds)
    for contender in contenders:
        figures |= contender.figures()
    first, *peers = contenders
    beside = next((peer for peer in peers if peer.name.startswith(nchan.NAME)), None)
    return figures, first.per_s / beside.per_s if beside else None


@asynccontextmanager
async def _contender(name: str, broadcaster: Broadcaster, sockets: int) -> AsyncIterator[Contender]:
    async with Audience() as audience:
        await audience.open(await broadcaster.door(sockets), sockets)
        yield Contender(name, broadcaster, audience, sockets)
