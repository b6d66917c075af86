import assert from "node:assert/strict";
import { test } from "node:test";
import type { Violation } from "../../src/api/types.ts";
import {
  appendOlder,
  apply,
  EMPTY_FEED,
  type Feed,
  olderPage,
  ROW_LIMIT,
  reset,
  reveal,
} from "../../src/live/feed.ts";
import type { LiveEvent } from "../../src/live/protocol.ts";
import { metrics, page, update, violation } from "./samples.ts";

const NOW = { hold: false, highlight: true };
const HELD = { hold: true, highlight: true };

const recorded = (...rows: Partial<Violation>[]): LiveEvent[] =>
  rows.map((row, index) => ({ offset: index, ts: 0, type: "violation", data: violation(row) }));

const many = (from: number, count: number): Partial<Violation>[] =>
  Array.from({ length: count }, (_, index) => ({ id: `v${from + index}`, ts: from + index }));

const ids = (entries: Feed["rows"]) => entries.map((entry) => entry.violation.id);

function loaded(...rows: Partial<Violation>[]): Feed {
  return reset(EMPTY_FEED, { metrics: metrics(), violations: page(rows.map(violation)) }, false);
}

test("new rows go on top, newest first, and are told apart from those that were read", () => {
  const feed = apply(loaded({ id: "a", ts: 1 }), recorded({ id: "b", ts: 2 }, { id: "c", ts: 3 }), NOW);
  assert.deepEqual(ids(feed.rows), ["c", "b", "a"]);
  assert.deepEqual(
    feed.rows.map((entry) => entry.live),
    [true, true, false],
  );
});

test("a row that comes late takes its place by its time", () => {
  const feed = apply(loaded({ id: "c", ts: 3 }, { id: "a", ts: 1 }), recorded({ id: "b", ts: 2 }), NOW);
  assert.deepEqual(ids(feed.rows), ["c", "b", "a"]);
});

test("a second event of a row updates it in place, and leaves the others the same objects", () => {
  const before = loaded({ id: "b", ts: 2, action_status: "pending" }, { id: "a", ts: 1 });
  const after = apply(before, recorded({ id: "b", ts: 2, action_status: "failed" }), NOW);
  assert.equal(after.rows[0]?.violation.action_status, "failed");
  assert.equal(after.rows[1], before.rows[1]);
  assert.equal(after.rows.length, 2);
});

test("an older event does not turn 'deleted' back into 'deleting'", () => {
  const feed = apply(
    loaded({ id: "a", action_status: "done" }),
    recorded({ id: "a", action_status: "pending" }),
    NOW,
  );
  assert.equal(feed.rows[0]?.violation.action_status, "done");
});

test("a row shows its last review, whichever event comes last", () => {
  const first = { verdict: "confirmed", by: "1", at: 10, note: null, version: 1 } as const;
  const second = { verdict: "dismissed", by: "2", at: 10, note: "a joke", version: 2 } as const;
  for (const [before, after, shown] of [
    [null, first, first],
    [first, null, first],
    [first, second, second],
    [second, first, second],
  ] as const) {
    const feed = apply(loaded({ id: "a", review: before }), recorded({ id: "a", review: after }), NOW);
    assert.deepEqual(feed.rows[0]?.violation.review, shown);
  }
});

test("held rows are counted and stay out of the list until they are shown", () => {
  const held = apply(loaded({ id: "a", ts: 1 }), recorded({ id: "b", ts: 2 }), HELD);
  assert.deepEqual(ids(held.rows), ["a"]);
  assert.equal(held.heldCount, 1);
  const updated = apply(held, recorded({ id: "b", ts: 2, action_status: "failed" }), HELD);
  assert.equal(updated.heldCount, 1);
  assert.deepEqual(ids(reveal(updated).rows), ["b", "a"]);
  assert.equal(reveal(updated).rows[0]?.violation.action_status, "failed");
});

test("the list ends at its limit, and says that there is more", () => {
  const feed = apply(loaded({ id: "v0", ts: 0 }), recorded(...many(1, ROW_LIMIT)), NOW);
  assert.equal(feed.rows.length, ROW_LIMIT);
  assert.equal(feed.rows[0]?.violation.id, `v${ROW_LIMIT}`);
  assert.equal(feed.hasOlder, true);
});

test("with more held than fits, the old rows go: a list with a hole would be a lie", () => {
  const held = apply(loaded({ id: "v0", ts: 0 }), recorded(...many(1, ROW_LIMIT + 20)), HELD);
  assert.equal(held.heldCount, ROW_LIMIT + 20);
  const shown = reveal(held);
  assert.equal(shown.rows.length, ROW_LIMIT);
  assert.equal(ids(shown.rows).includes("v0"), false);
  assert.equal(shown.hasOlder, true);
});

test("older rows are appended once, and the page to ask for counts what came meanwhile", () => {
  const rows = many(100, 50).reverse();
  let feed = reset(
    EMPTY_FEED,
    { metrics: metrics(), violations: page(rows.map(violation), { has_next: true }) },
    false,
  );
  assert.equal(olderPage(feed, 50), 2);
  feed = apply(feed, recorded(...many(150, 3)), HELD);
  assert.equal(olderPage(feed, 50), 2);
  feed = appendOlder(feed, page([violation({ id: "v100", ts: 100 }), violation({ id: "v99", ts: 99 })]));
  assert.equal(feed.rows.length, 51);
  assert.equal(feed.hasOlder, false);
});

test("a late row from below the end of a list with more to load waits for its page", () => {
  const feed = reset(
    EMPTY_FEED,
    { metrics: metrics(), violations: page([violation({ id: "b", ts: 5 })], { has_next: true }) },
    false,
  );
  assert.deepEqual(ids(apply(feed, recorded({ id: "a", ts: 1 }), NOW).rows), ["b"]);
});

test("a reload while the list is held puts only what is newer aside", () => {
  const feed = loaded({ id: "a", ts: 1 });
  const again = {
    metrics: metrics(),
    violations: page([violation({ id: "b", ts: 2 }), violation({ id: "a", ts: 1 })]),
  };
  assert.deepEqual(ids(reset(feed, again, true).rows), ["a"]);
  assert.deepEqual(ids(reset(feed, again, true).held), ["b"]);
  assert.deepEqual(ids(reset(feed, again, false).rows), ["b", "a"]);
});

test("numbers are replaced by each update, the bot's state by its own event", () => {
  const feed = apply(
    loaded(),
    [
      { offset: 1, ts: 0, type: "metrics_update", data: update({ messages: 7, member_count: null }) },
      { offset: 2, ts: 0, type: "bot_status", data: { online: false } },
      { offset: 3, ts: 0, type: "other" },
    ],
    NOW,
  );
  assert.equal(feed.metrics?.messages, 7);
  assert.equal(feed.metrics?.member_count, null);
  assert.equal(feed.metrics?.bot_online, false);
});

test("a batch without news leaves the feed the same object", () => {
  const feed = loaded({ id: "a" });
  assert.equal(apply(feed, [{ offset: 1, ts: 0, type: "other" }], NOW), feed);
});

test("arrivals are counted for the spoken summary, whether shown or held", () => {
  const feed = apply(
    loaded(),
    recorded({ id: "a", severity: "critical" }, { id: "b", severity: "low" }),
    HELD,
  );
  assert.deepEqual(feed.arrived, { all: 2, grave: 1 });
});

test("events that are late are said to be, until they no longer are", () => {
  const health = (offset: number, store_available: boolean): LiveEvent[] => [
    { offset, ts: 0, type: "health_update", data: { store_available } },
  ];
  const away = apply(loaded(), health(1, false), NOW);
  assert.equal(away.delayed, true);
  assert.equal(apply(away, health(2, true), NOW).delayed, false);
  const read = reset(away, { metrics: metrics(), violations: page([]) }, false);
  assert.equal(read.delayed, false);
});
