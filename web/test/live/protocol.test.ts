import assert from "node:assert/strict";
import { test } from "node:test";
import { parseFrame } from "../../src/live/protocol.ts";
import { update, violation } from "./samples.ts";

const frame = (...events: unknown[]) =>
  parseFrame(JSON.stringify({ op: "events", guild_id: "1", epoch: 7, events }));

test("reads the frames of the protocol", () => {
  assert.deepEqual(parseFrame('{"op":"subscribed","guild_id":"1","epoch":7,"offset":120,"recovered":true}'), {
    op: "subscribed",
    guild_id: "1",
    epoch: 7,
    offset: 120,
    recovered: true,
  });
  assert.deepEqual(parseFrame('{"op":"error","code":"not_allowed","message":"No."}'), {
    op: "error",
    code: "not_allowed",
    message: "No.",
  });
  const read = frame(
    { offset: 1, ts: 5, type: "violation", data: violation() },
    { offset: 2, ts: 5, type: "metrics_update", data: update() },
    { offset: 3, ts: 5, type: "bot_status", data: { online: true } },
  );
  assert.deepEqual(read?.op === "events" && read.events.map(({ type }) => type), [
    "violation",
    "metrics_update",
    "bot_status",
  ]);
});

test("an event of a type not known here keeps its place in the order", () => {
  assert.deepEqual(frame({ offset: 4, ts: 5, type: "health_update", data: { score: 9 } }), {
    op: "events",
    guild_id: "1",
    epoch: 7,
    events: [{ offset: 4, ts: 5, type: "other" }],
  });
});

test("an unreadable event leaves a hole instead of a broken page", () => {
  for (const broken of [
    { offset: 1, type: "violation", data: {} },
    { offset: 1, type: "metrics_update" },
    { offset: 1, type: "bot_status", data: { online: "yes" } },
    { type: "violation", data: violation() },
    null,
  ]) {
    assert.deepEqual(frame(broken)?.op === "events" && frame(broken), {
      op: "events",
      guild_id: "1",
      epoch: 7,
      events: [],
    });
  }
});

test("anything else is no frame", () => {
  for (const text of ["", "null", "[]", "{", '{"op":"events"}', '{"op":"pong","guild_id":"1","epoch":1}']) {
    assert.equal(parseFrame(text), null);
  }
});
