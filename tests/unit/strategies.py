"""What hypothesis may make up: every event there is, for a few guilds and a few hours."""

from __future__ import annotations

from hypothesis import strategies as st

from adapters.memory.samples import NOON_MS
from domain.events import (
    SEVERITIES,
    ActionSettled,
    Batch,
    BotPresenceChanged,
    Event,
    Gap,
    GuildDescribed,
    GuildLeft,
    MemberJoined,
    MemberLeft,
    MessagesCounted,
    UserRef,
    ViolationDetected,
)
from domain.ids import HOUR_MS, MAX_SNOWFLAKE

snowflakes = st.integers(1, MAX_SNOWFLAKE)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
times = st.integers(NOON_MS - 40 * HOUR_MS, NOON_MS + HOUR_MS)
users = st.builds(UserRef, snowflakes, texts, texts, st.none() | texts)


def events(guild_ids: st.SearchStrategy[int] = snowflakes) -> st.SearchStrategy[Event]:
    return st.one_of(
        st.builds(GuildDescribed, guild_ids, texts, snowflakes, st.none() | texts, st.integers(0, 10**6)),
        st.builds(GuildLeft, guild_ids),
        st.builds(BotPresenceChanged, guild_ids, st.booleans(), times),
        st.builds(MessagesCounted, guild_ids, times, st.integers(1, 10_000)),
        st.builds(MemberJoined, guild_ids, users, times),
        st.builds(MemberLeft, guild_ids, snowflakes, times),
        st.builds(
            ViolationDetected,
            guild_ids,
            st.uuids(),
            snowflakes,
            st.none() | texts,
            snowflakes,
            users,
            st.sampled_from(["invite_link", "phishing_link", "banned_word", "mention_flood"]),
            texts,
            st.sampled_from(SEVERITIES),
            st.sampled_from(["none", "delete"]),
            st.sampled_from(["none", "pending", "done", "failed"]),
            texts,
            st.binary(max_size=16),
            times,
        ),
        st.builds(
            ActionSettled,
            guild_ids,
            st.uuids(),
            times,
            st.sampled_from(["none", "pending", "done", "failed"]),
        ),
    )


batches = st.builds(
    Batch,
    texts,
    st.integers(0, 2**62),
    st.lists(events(), max_size=6).map(tuple),
    st.lists(st.builds(Gap, times, times, st.integers(0, 2**40)), max_size=3).map(tuple),
)
