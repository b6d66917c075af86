/** The live list: newest first, and never moving under someone who is reading further down. */

import { type Signal, useSignalEffect } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { ROW_LIMIT } from "../live/feed.ts";
import { formatNumber } from "../ui/format.ts";
import { PauseIcon, PlayIcon, UpIcon } from "../ui/icons.tsx";
import { Arrivals } from "./arrivals.tsx";
import type { GuildPage } from "./page-state.ts";
import { ViolationRow } from "./violation-row.tsx";

export function Violations({ page }: { page: GuildPage }): JSX.Element {
  const top = useRef<HTMLDivElement>(null);
  useScrolledAway(top, page.scrolledAway);
  useSignalEffect(() => {
    if (!page.paused.value && !page.scrolledAway.value) page.showHeld();
  });
  const { rows, heldCount, loaded } = page.feed.value;
  const paused = page.paused.value;

  const showNew = () => {
    page.paused.value = false;
    page.showHeld();
    top.current?.scrollIntoView({ block: "start" });
  };
  return (
    <section class="card violations" aria-labelledby="violations-title">
      <div ref={top} class="violations-top" />
      <div class="card-header">
        <h2 id="violations-title">Violations</h2>
        <button
          type="button"
          class="button small quiet"
          aria-pressed={paused}
          onClick={() => {
            page.paused.value = !paused;
          }}
        >
          {paused ? <PlayIcon /> : <PauseIcon />}
          {paused ? "Resume" : "Pause"}
        </button>
      </div>
      {heldCount > 0 && (
        <div class="pill-place">
          <button type="button" class="pill" data-testid="new-pill" onClick={showNew}>
            <UpIcon />
            {formatNumber(heldCount)} new
          </button>
        </div>
      )}
      <Arrivals feed={page.feed} />
      {!loaded && <Loading />}
      {loaded && rows.length === 0 && heldCount === 0 && (
        <div class="notice empty">
          <h3>All quiet</h3>
          <p>Nothing has broken a rule here yet. New violations appear by themselves.</p>
        </div>
      )}
      <ol class="violation-list">
        {rows.map((entry) => (
          <ViolationRow key={entry.violation.id} entry={entry} />
        ))}
      </ol>
      {loaded && <ListEnd page={page} />}
    </section>
  );
}

/** Out of sight means: its top is above the window, under the sticky header. */
function useScrolledAway(top: { current: HTMLDivElement | null }, away: Signal<boolean>): void {
  useEffect(() => {
    if (top.current === null) return;
    const watcher = new IntersectionObserver((entries) => {
      const seen = entries.at(-1);
      if (seen === undefined) return;
      away.value = !seen.isIntersecting && seen.boundingClientRect.top < 100;
    });
    watcher.observe(top.current);
    return () => watcher.disconnect();
  }, []);
}

function ListEnd({ page }: { page: GuildPage }): JSX.Element | null {
  const { rows, hasOlder } = page.feed.value;
  const older = page.older.value;
  if (rows.length === 0) return null;
  if (rows.length >= ROW_LIMIT) {
    return <p class="list-end">The newest {formatNumber(ROW_LIMIT)} violations are shown.</p>;
  }
  if (!hasOlder) return <p class="list-end">That is all of them.</p>;
  return (
    <div class="list-end">
      {older === "failed" && <p role="alert">Older violations could not be loaded.</p>}
      <button type="button" class="button" disabled={older === "loading"} onClick={page.loadOlder}>
        {older === "loading" ? "Loading…" : older === "failed" ? "Try again" : "Load older"}
      </button>
    </div>
  );
}

function Loading(): JSX.Element {
  return (
    <div class="skeletons" role="status" aria-label="Loading violations">
      {[1, 2, 3, 4, 5, 6].map((key) => (
        <div key={key} class="skeleton row-skeleton" />
      ))}
    </div>
  );
}
