"""The traffic generator: its rate, its labels, and that clean messages are clean."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

from discord_sim.phrases import PHISHING_DOMAINS, normal_form
from discord_sim.traffic import LABELS, Plan, PlannedMessage, PlannedMove, Traffic
from discord_sim.world import World, build_world

START = 1_790_000_000.0
Timed = tuple[float, Plan]


def run(traffic: Traffic, seconds: float, *, start: float = START, step: float = 0.1) -> list[Timed]:
    steps = int(seconds / step)
    times = [start + step * number for number in range(1, steps + 1)]
    return [(now, plan) for now in times for plan in traffic.advance(now)]


def messages(timed: list[Timed]) -> list[tuple[float, PlannedMessage]]:
    return [(now, plan) for now, plan in timed if isinstance(plan, PlannedMessage)]


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(seed=1, guilds=30)


@pytest.fixture(scope="module")
def crowd(world: World) -> list[Timed]:
    """Five minutes of a busy network."""
    return run(Traffic(world, seed=1, rate=100.0, now=START), 300.0)


def test_the_rate_and_the_share_of_offences_hold(crowd: list[Timed]) -> None:
    """100 a second overall, 3.5 % of them offending."""
    said = messages(crowd)
    assert len(said) / 300 == pytest.approx(100, rel=0.03)
    share = sum(plan.label is not None for _, plan in said) / len(said)
    assert share == pytest.approx(0.035, rel=0.15)


def test_every_kind_of_offence_happens(crowd: list[Timed]) -> None:
    """None is so rare that a demo would not show it."""
    counts = Counter(plan.label for _, plan in messages(crowd))
    assert all(counts[label] > 50 for label in LABELS)


def test_each_label_is_what_the_text_is(crowd: list[Timed]) -> None:
    """A detector written from the description of the kinds finds exactly the labelled messages."""
    said_at: dict[tuple[int, int, str], list[float]] = defaultdict(list)
    for now, plan in messages(crowd):
        text = normal_form(plan.content)
        found = set()
        if re.search(r"discord\.gg/|discord\.com/invite/", text):
            found.add("invite_link")
        if any(domain in text for domain in PHISHING_DOMAINS):
            found.add("phishing_link")
        if "scumbag" in text or "kys" in text:
            found.add("banned_word")
        if len(set(re.findall(r"<@(\d+)>", plan.content))) >= 6:
            found.add("mention_flood")
        times = said_at[plan.guild_id, plan.author_id, text]
        times.append(now)
        if sum(now - earlier <= 30 for earlier in times) >= 3:
            found.add("repeated_message")
        assert found == ({plan.label} if plan.label else set()), plan


def test_repetitions_come_at_least_four_times_within_thirty_seconds(crowd: list[Timed]) -> None:
    """Two are allowed, the later ones are labelled."""
    runs: dict[tuple[int, int, str], list[tuple[float, str | None]]] = defaultdict(list)
    finished = []
    for now, plan in messages(crowd):
        key = (plan.guild_id, plan.author_id, normal_form(plan.content))
        if runs[key] and now - runs[key][-1][0] > 30:
            finished.append(runs.pop(key))
        runs[key].append((now, plan.label))
    finished += [times for times in runs.values() if times[0][0] < START + 280]
    repeated = [times for times in finished if any(label == "repeated_message" for _, label in times)]
    assert len(repeated) > 20
    for times in repeated:
        assert len(times) >= 4
        assert times[-1][0] - times[0][0] <= 30
        assert [label for _, label in times] == [None, None] + ["repeated_message"] * (len(times) - 2)


def test_clean_messages_have_few_mentions_and_no_links(crowd: list[Timed]) -> None:
    """Nothing in them could be taken for an offence."""
    for _, plan in messages(crowd):
        if plan.label is None:
            assert len(plan.mention_ids) < 5
            assert "http" not in plan.content
            assert "discord" not in plan.content.lower()


def test_authors_are_members_and_channels_are_the_guilds(world: World, crowd: list[Timed]) -> None:
    """Demo people and the bot never talk by themselves."""
    silent = {world.bot.id} | {user.id for user in world.people.values()}
    for _, plan in messages(crowd):
        guild = world.guilds[plan.guild_id]
        assert plan.author_id in world.users
        assert plan.author_id not in silent
        assert plan.channel_id in {channel.id for channel in guild.text_channels}


def test_some_guilds_are_far_busier_than_others(world: World, crowd: list[Timed]) -> None:
    """The first guild has several times the traffic of the last, and all have some."""
    counts = Counter(plan.guild_id for _, plan in messages(crowd))
    ids = list(world.guilds)
    assert counts[ids[0]] > 4 * counts[ids[-1]]
    assert len(counts) == len(ids)


def test_a_few_offend_again_and_again(crowd: list[Timed]) -> None:
    """Most offences of a guild come from a handful of its members."""
    busiest = Counter(plan.guild_id for _, plan in messages(crowd)).most_common(1)[0][0]
    offenders = Counter(
        plan.author_id for _, plan in messages(crowd) if plan.guild_id == busiest and plan.label is not None
    )
    assert sum(count for _, count in offenders.most_common(5)) > 0.6 * offenders.total()


def test_members_come_and_go(crowd: list[Timed]) -> None:
    """Now and then, both ways."""
    moves = Counter(plan.joins for _, plan in crowd if isinstance(plan, PlannedMove))
    assert moves[True] > 20
    assert moves[False] > 20


def test_the_same_seed_says_the_same(world: World) -> None:
    """A run can be repeated."""
    first, second = (run(Traffic(world, seed=3, rate=50.0, now=START), 5.0) for _ in range(2))
    assert first == second


def test_silence_is_silence(world: World) -> None:
    """Rate 0 says nothing, also when set in the middle."""
    traffic = Traffic(world, seed=1, rate=0.0, now=START)
    assert run(traffic, 10.0) == []
    traffic.set_rate(200.0, START + 10, offence_share=0.5)
    assert run(traffic, 5.0, start=START + 10)
    traffic.set_rate(0.0, START + 15)
    assert run(traffic, 30.0, start=START + 15) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_offence_share_can_be_set(world: World, share: float) -> None:
    """From none to (nearly) all."""
    traffic = Traffic(world, seed=1, rate=200.0, now=START, offence_share=share)
    said = messages(run(traffic, 20.0))
    assert sum(plan.label is not None for _, plan in said) / len(said) == pytest.approx(share, abs=0.03)


def test_whoever_connects_sees_an_offence_soon(world: World) -> None:
    """Within two seconds in one of the given guilds, however quiet the network is."""
    traffic = Traffic(world, seed=1, rate=0.05, now=START)
    first_guild = next(iter(world.guilds))
    traffic.nudge([first_guild], START)
    offences = [plan for _, plan in messages(run(traffic, 2.0)) if plan.label is not None]
    assert [plan.guild_id for plan in offences] == [first_guild]


def test_a_held_up_process_does_not_make_up_for_lost_time(world: World) -> None:
    """After a minute's stall there is a second's worth of messages, not a minute's."""
    traffic = Traffic(world, seed=1, rate=100.0, now=START)
    assert len(traffic.advance(START + 60)) < 200


def test_a_world_without_guilds_is_silent() -> None:
    """Nobody to talk, nowhere to talk."""
    assert run(Traffic(build_world(seed=1, guilds=0), seed=1, rate=10.0, now=START), 2.0) == []
