/** What the API answers, by the names that the page uses. Ids are strings, times are Unix milliseconds. */

import type { HourView, Me, Metrics, Server, ServerPage, UserView, ViolationView } from "./schema.ts";

export type { Me, Metrics, Server, ServerPage };

export type User = UserView;
export type Violation = ViolationView;
export type HourPoint = HourView;

export type Role = Server["role"];
export type ActionStatus = Violation["action_status"];

export const SEVERITIES = ["critical", "high", "medium", "low"] as const;
export type Severity = (typeof SEVERITIES)[number];

export type Page<Item> = Omit<ServerPage, "data" | "unchecked"> & { data: Item[] };

/** Totals of a stretch of time. */
export type Totals = Omit<Metrics, "guild_id" | "period" | "series">;

/** Data of the `metrics_update` event: the last 24 hours, and the bucket of the current one. */
export type MetricsUpdate = Totals & { hour: HourPoint };
