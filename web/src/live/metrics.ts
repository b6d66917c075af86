/** Numbers of the last 24 hours: the answer read once, then replaced by each update from the stream. */

import type { HourPoint, Metrics, MetricsUpdate } from "../api/types.ts";

export const HOUR_MS = 3_600_000;

export function withUpdate(metrics: Metrics | null, update: MetricsUpdate): Metrics | null {
  if (metrics === null) return null; // the series of the day is missing; the load under way brings it
  const { hour, ...totals } = update;
  const series = metrics.series
    .filter((point) => point.ts !== hour.ts && point.ts >= hour.ts - 23 * HOUR_MS)
    .concat(hour)
    .sort((a, b) => a.ts - b.ts);
  return { ...metrics, ...totals, series };
}

/** Exactly 24 hours, oldest first; an hour in which nothing happened is a zero, not a missing bar. */
export function lastDay(metrics: Metrics): HourPoint[] {
  const newest = metrics.series.reduce((ts, point) => Math.max(ts, point.ts), metrics.until - 1);
  const end = Math.floor(newest / HOUR_MS);
  const known = new Map(metrics.series.map((point) => [Math.floor(point.ts / HOUR_MS), point]));
  return Array.from({ length: 24 }, (_, index) => {
    const hour = end - 23 + index;
    return known.get(hour) ?? { ts: hour * HOUR_MS, messages: 0, violations: 0 };
  });
}
