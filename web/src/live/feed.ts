/**
 * What the guild page shows: the rows of the list and the numbers above it.
 *
 * Pure: a reloaded state or a batch of events goes in, the next feed comes out. Rows are merged by id;
 * a row that did not change stays the same object, which is what keeps a storm cheap to render.
 */

import type { ActionStatus, Metrics, Page, Violation } from "../api/types.ts";
import { withUpdate } from "./metrics.ts";
import type { LiveEvent } from "./protocol.ts";

/** More rows than anyone reads, few enough for a phone to lay out. */
export const ROW_LIMIT = 500;

export interface Entry {
  readonly violation: Violation;
  /** Came over the stream, as opposed to being read with the page. */
  readonly live: boolean;
  /** Drawn attention to for a moment; not in a storm, where everything would flash and nothing be seen. */
  readonly highlighted: boolean;
}

export interface ApplyOptions {
  hold: boolean;
  highlight: boolean;
}

export interface Snapshot {
  metrics: Metrics;
  violations: Page<Violation>;
}

export interface Arrived {
  readonly all: number;
  /** Of high or critical severity. */
  readonly grave: number;
}

export interface Feed {
  /** In the DOM, newest first. */
  readonly rows: readonly Entry[];
  /** Newer than `rows`, kept back so that the list does not move under the reader. */
  readonly held: readonly Entry[];
  /** How many were kept back in all; `held` itself ends at the row limit. */
  readonly heldCount: number;
  readonly hasOlder: boolean;
  /** Everything that came over the stream so far, for the spoken summary. */
  readonly arrived: Arrived;
  readonly metrics: Metrics | null;
  readonly loaded: boolean;
  /** The server cannot make events durable now: they wait at the bot, and come later. */
  readonly delayed: boolean;
}

export const EMPTY_FEED: Feed = {
  rows: [],
  held: [],
  heldCount: 0,
  hasOlder: false,
  arrived: { all: 0, grave: 0 },
  metrics: null,
  loaded: false,
  delayed: false,
};

/** Replace everything by what was just read. With `hold`, rows newer than the list still wait their turn. */
export function reset(feed: Feed, snapshot: Snapshot, hold: boolean): Feed {
  const shown = new Map(feed.rows.map((entry) => [entry.violation.id, entry]));
  const entries = snapshot.violations.data
    .slice(0, ROW_LIMIT)
    .map((violation) => ({ live: false, highlighted: false, ...shown.get(violation.id), violation }));
  const top = feed.rows[0]?.violation;
  const above = hold && top ? entries.filter((entry) => newestFirst(entry.violation, top) < 0) : [];
  return {
    rows: entries.slice(above.length),
    held: above,
    heldCount: above.length,
    hasOlder: snapshot.violations.has_next || snapshot.violations.data.length > ROW_LIMIT,
    arrived: feed.arrived,
    metrics: snapshot.metrics,
    loaded: true,
    delayed: false, // the state could be read
  };
}

export function apply(feed: Feed, events: readonly LiveEvent[], { hold, highlight }: ApplyOptions): Feed {
  let { metrics, delayed } = feed;
  const incoming = new Map<string, Violation>();
  for (const event of events) {
    if (event.type === "violation") {
      const before = incoming.get(event.data.id);
      incoming.set(event.data.id, before ? merged(before, event.data) : event.data);
    } else if (event.type === "metrics_update") {
      metrics = withUpdate(metrics, event.data);
    } else if (event.type === "bot_status" && metrics !== null) {
      metrics = { ...metrics, bot_online: event.data.online };
    } else if (event.type === "health_update") {
      delayed = !event.data.store_available;
    }
  }
  if (incoming.size === 0) {
    const same = metrics === feed.metrics && delayed === feed.delayed;
    return same ? feed : { ...feed, metrics, delayed };
  }

  // Both take the rows they know out of `incoming`; what is left there is new.
  const rows = updated(feed.rows, incoming);
  const held = updated(feed.held, incoming);
  const oldest = feed.hasOlder ? feed.rows.at(-1)?.violation : undefined;
  const fresh = [...incoming.values()]
    // A late row from below the end of the list would leave a hole above it; "Load older" brings it.
    .filter((violation) => oldest === undefined || newestFirst(violation, oldest) < 0)
    .map((violation) => ({ violation, live: true, highlighted: highlight }));
  if (fresh.length === 0) return { ...feed, rows, held, metrics, delayed };
  const next = {
    ...feed,
    rows,
    held: newest([...fresh, ...held]),
    heldCount: feed.heldCount + fresh.length,
    arrived: {
      all: feed.arrived.all + fresh.length,
      grave: feed.arrived.grave + fresh.filter(({ violation }) => isGrave(violation)).length,
    },
    metrics,
    delayed,
  };
  return hold ? next : reveal(next);
}

/** Put the rows that were kept back into the list. */
export function reveal(feed: Feed): Feed {
  if (feed.heldCount === 0) return feed;
  // With more kept back than the list can hold, the old rows no longer continue the new ones.
  const together = feed.heldCount > ROW_LIMIT ? [...feed.held] : [...feed.held, ...feed.rows];
  return {
    ...feed,
    rows: newest(together),
    held: [],
    heldCount: 0,
    hasOlder: feed.hasOlder || together.length > ROW_LIMIT || feed.heldCount > ROW_LIMIT,
  };
}

/** The page to ask for next. Rows that arrived since shift the pages, so it may overlap; ids sort that out. */
export function olderPage(feed: Feed, perPage: number): number {
  return Math.floor((feed.rows.length + feed.heldCount) / perPage) + 1;
}

export function appendOlder(feed: Feed, page: Page<Violation>): Feed {
  const known = new Set([...feed.rows, ...feed.held].map((entry) => entry.violation.id));
  const older = page.data
    .filter((violation) => !known.has(violation.id))
    .map((violation) => ({ violation, live: false, highlighted: false }));
  return { ...feed, rows: newest([...feed.rows, ...older]), hasOlder: page.has_next };
}

function updated(entries: readonly Entry[], incoming: Map<string, Violation>): readonly Entry[] {
  let touched = false;
  const next = entries.map((entry) => {
    const newer = incoming.get(entry.violation.id);
    if (newer === undefined) return entry;
    incoming.delete(newer.id);
    touched = true;
    return { ...entry, violation: merged(entry.violation, newer) };
  });
  return touched ? next : entries;
}

const SETTLED: readonly ActionStatus[] = ["done", "failed"];

/**
 * A buffered event can be older than the state read after it: "deleted" must not turn into "deleting", nor a
 * review into an earlier one or none.
 */
function merged(before: Violation, after: Violation): Violation {
  const regresses = after.action_status === "pending" && SETTLED.includes(before.action_status);
  const reviewedBefore = before.review !== null && (after.review?.version ?? 0) < before.review.version;
  return {
    ...after,
    action_status: regresses ? before.action_status : after.action_status,
    review: reviewedBefore ? before.review : after.review,
  };
}

function newest(entries: Entry[]): Entry[] {
  return entries.sort((a, b) => newestFirst(a.violation, b.violation)).slice(0, ROW_LIMIT);
}

function isGrave({ severity }: Violation): boolean {
  return severity === "critical" || severity === "high";
}

/** Ids are digits beyond what a number holds: the longer is the greater, and equal lengths compare as text. */
function descending(a: string, b: string): number {
  return b.length - a.length || (a < b ? 1 : a > b ? -1 : 0);
}

/** The order in which the server pages its lists: a row must not move when the page is loaded anew. */
export function newestFirst(a: Violation, b: Violation): number {
  return b.ts - a.ts || descending(a.message_id, b.message_id) || descending(b.id, a.id);
}
