/** The state of one open guild page: signals for the view, fed by the live stream once per frame. */

import { type Signal, signal } from "@preact/signals";
import { ApiError } from "../api/client.ts";
import { getDayMetrics, getViolations } from "../api/endpoints.ts";
import type { Violation } from "../api/types.ts";
import {
  appendOlder,
  apply,
  EMPTY_FEED,
  type Feed,
  olderPage,
  ROW_LIMIT,
  reset,
  reveal,
  type Snapshot,
} from "../live/feed.ts";
import { FrameBatch } from "../live/frames.ts";
import type { LiveState, LoadFailure } from "../live/machine.ts";
import type { LiveEvent } from "../live/protocol.ts";
import { follow } from "../live/shell.ts";
import { type Status, statusOf } from "../live/status.ts";
import { messageOf, sessionOver } from "../session.ts";

const PER_PAGE = 50;
const RELOAD_PER_PAGE = 100;

export interface GuildPage {
  feed: Signal<Feed>;
  status: Signal<Status>;
  /** Why nothing could be read, in a sentence; null when the last load worked. */
  problem: Signal<string | null>;
  refused: Signal<boolean>;
  paused: Signal<boolean>;
  /** The top of the list is out of sight: rows put there would move what is being read. */
  scrolledAway: Signal<boolean>;
  older: Signal<"idle" | "loading" | "failed">;
  showHeld: () => void;
  loadOlder: () => Promise<void>;
  retry: () => void;
  close: () => void;
}

type Change = { reset: Snapshot } | { events: LiveEvent[] };

export function openGuildPage(guildId: string): GuildPage {
  const feed = signal<Feed>(EMPTY_FEED);
  const status = signal<Status>({ kind: "connecting" });
  const problem = signal<string | null>(null);
  const refused = signal(false);
  const paused = signal(false);
  const scrolledAway = signal(false);
  const older = signal<"idle" | "loading" | "failed">("idle");

  const pace = new Pace();
  const holding = () => paused.value || scrolledAway.value;
  const changes = new FrameBatch<Change>((batch) => {
    feed.value = batch.reduce(
      (current, change) =>
        "reset" in change
          ? reset(current, change.reset, holding())
          : apply(current, change.events, { hold: holding(), highlight: pace.isCalm(change.events.length) }),
      feed.value,
    );
  });

  const following = follow<Snapshot>({
    guildId,
    load: (abort) => loadState(guildId, feed.value.rows.length, abort),
    failureOf,
    onReset: (snapshot) => {
      problem.value = null;
      changes.push({ reset: snapshot });
    },
    onEvents: (events) => changes.push({ events }),
    onState: (state) => onState(state),
    onLoadFailed: (error) => {
      problem.value = messageOf(error);
    },
  });

  function onState(state: LiveState): void {
    const next = statusOf(state);
    if (JSON.stringify(next) !== JSON.stringify(status.value)) status.value = next;
    if (state.phase.at !== "ended") return;
    if (state.phase.why === "session_over") sessionOver();
    if (state.phase.why === "not_allowed") refused.value = true;
  }

  return {
    feed,
    status,
    problem,
    refused,
    paused,
    scrolledAway,
    older,
    showHeld: () => {
      feed.value = reveal(feed.value);
    },
    loadOlder: async () => {
      older.value = "loading";
      try {
        const page = await getViolations(guildId, olderPage(feed.value, PER_PAGE), PER_PAGE);
        feed.value = appendOlder(feed.value, page);
        older.value = "idle";
      } catch {
        older.value = "failed";
      }
    },
    retry: following.retry,
    close: () => {
      following.stop();
      changes.stop();
    },
  };
}

/** Above this a highlight on each row is a strobe, and costs more than the rows themselves. */
const CALM_PER_SECOND = 20;

class Pace {
  #second = 0;
  #count = 0;

  isCalm(events: number, now = performance.now()): boolean {
    if (now - this.#second > 1_000) {
      this.#second = now;
      this.#count = 0;
    }
    this.#count += events;
    return this.#count <= CALM_PER_SECOND;
  }
}

/** Everything the page shows. A reload brings back as many rows as there are, so none of them grows stale. */
async function loadState(guildId: string, rows: number, abort: AbortSignal): Promise<Snapshot> {
  const [metrics, violations] = await Promise.all([
    getDayMetrics(guildId, abort),
    rows <= PER_PAGE ? getViolations(guildId, 1, PER_PAGE, abort) : loadRows(guildId, rows, abort),
  ]);
  return { metrics, violations };
}

async function loadRows(guildId: string, rows: number, abort: AbortSignal): Promise<Snapshot["violations"]> {
  const known = new Map<string, Violation>();
  for (let number = 1; ; number += 1) {
    const page = await getViolations(guildId, number, RELOAD_PER_PAGE, abort);
    // New rows push older ones onto the next page meanwhile: some come twice, none is missed.
    for (const violation of page.data) if (!known.has(violation.id)) known.set(violation.id, violation);
    if (!page.has_next || known.size >= Math.min(rows, ROW_LIMIT))
      return { ...page, data: [...known.values()] };
  }
}

function failureOf(error: unknown): LoadFailure {
  if (!(error instanceof ApiError)) return "unavailable";
  if (error.status === 401) return "unauthorized";
  // What was asked for is refused: asking again, for ever, would get the same answer.
  return [400, 403, 404, 422].includes(error.status) ? "forbidden" : "unavailable";
}
