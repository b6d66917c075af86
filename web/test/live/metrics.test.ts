import assert from "node:assert/strict";
import { test } from "node:test";
import { HOUR_MS, lastDay, withUpdate } from "../../src/live/metrics.ts";
import { metrics, update } from "./samples.ts";

const point = (hour: number, violations: number) => ({ ts: hour * HOUR_MS, messages: 0, violations });

test("the current hour is replaced, a new hour is added, and an old one falls out", () => {
  const series = [point(100, 1), point(122, 2), point(123, 3)];
  const same = withUpdate(metrics({ series }), update({ hour: point(123, 4) }));
  assert.deepEqual(same?.series, [point(100, 1), point(122, 2), point(123, 4)]);
  const next = withUpdate(metrics({ series }), update({ hour: point(124, 1) }));
  assert.deepEqual(next?.series, [point(122, 2), point(123, 3), point(124, 1)]);
});

test("an update before the first state is not enough to show", () => {
  assert.equal(withUpdate(null, update()), null);
});

test("a day is 24 hours, with zeros where nothing happened", () => {
  const day = lastDay(metrics({ until: 124 * HOUR_MS, series: [point(110, 5)] }));
  assert.equal(day.length, 24);
  assert.deepEqual(day[0], point(100, 0));
  assert.deepEqual(day[10], point(110, 5));
  assert.equal(day.at(-1)?.ts, 123 * HOUR_MS, "an `until` on the full hour is the end of the hour before");
});
