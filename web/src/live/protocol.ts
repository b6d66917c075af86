/** The frames on `/ws`. Text in, typed frames out; anything unreadable is null. */

import type { MetricsUpdate, Violation } from "../api/types.ts";

export interface Position {
  epoch: number;
  offset: number;
}

export type LiveEvent = { offset: number; ts: number } & (
  | { type: "violation"; data: Violation }
  | { type: "metrics_update"; data: MetricsUpdate }
  | { type: "bot_status"; data: { online: boolean } }
  | { type: "health_update"; data: { store_available: boolean } }
  /** A type of a later release: it takes its place in the order, and nothing else. */
  | { type: "other" }
);

export type ServerFrame =
  | { op: "subscribed"; guild_id: string; epoch: number; offset: number; recovered: boolean }
  | { op: "events"; guild_id: string; epoch: number; events: LiveEvent[] }
  | { op: "error"; code: string; message: string };

export type ClientFrame = { op: "subscribe"; guild_id: string; epoch?: number; offset?: number };

type Json = Record<string, unknown>;

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null;
}

export function parseFrame(text: string): ServerFrame | null {
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isObject(frame)) return null;
  if (frame.op === "error") {
    return { op: "error", code: String(frame.code), message: String(frame.message ?? "") };
  }
  const { guild_id, epoch } = frame;
  if (typeof guild_id !== "string" || typeof epoch !== "number") return null;
  if (frame.op === "subscribed" && typeof frame.offset === "number") {
    return { op: "subscribed", guild_id, epoch, offset: frame.offset, recovered: frame.recovered === true };
  }
  if (frame.op === "events" && Array.isArray(frame.events)) {
    // An unreadable event is left out; the hole it leaves in the offsets makes the page reload its state.
    const events = frame.events.map(parseEvent).filter((event) => event !== null);
    return { op: "events", guild_id, epoch, events };
  }
  return null;
}

function parseEvent(raw: unknown): LiveEvent | null {
  if (!isObject(raw) || typeof raw.offset !== "number") return null;
  const { offset, data } = raw;
  const ts = typeof raw.ts === "number" ? raw.ts : 0;
  switch (raw.type) {
    case "violation":
      if (!isObject(data) || typeof data.id !== "string" || !isObject(data.user)) return null;
      return { offset, ts, type: "violation", data: data as unknown as Violation };
    case "metrics_update":
      if (!isObject(data) || !isObject(data.by_severity) || !isObject(data.hour)) return null;
      return { offset, ts, type: "metrics_update", data: data as unknown as MetricsUpdate };
    case "bot_status":
      if (!isObject(data) || typeof data.online !== "boolean") return null;
      return { offset, ts, type: "bot_status", data: { online: data.online } };
    case "health_update":
      // A health update may be about something else; what is not known here is passed over.
      if (!isObject(data) || typeof data.store_available !== "boolean") return { offset, ts, type: "other" };
      return { offset, ts, type: "health_update", data: { store_available: data.store_available } };
    default:
      return typeof raw.type === "string" ? { offset, ts, type: "other" } : null;
  }
}
