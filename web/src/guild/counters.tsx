/** The numbers of the last 24 hours. */

import type { ComponentChildren, JSX } from "preact";
import { type Metrics, SEVERITIES } from "../api/types.ts";
import { formatNumber } from "../ui/format.ts";
import { SEVERITY_WORDS } from "./words.ts";

export function Counters({ metrics }: { metrics: Metrics | null }): JSX.Element {
  return (
    <section class="counters" aria-label="Last 24 hours" aria-busy={metrics === null}>
      <Counter label="Messages" note="last 24 h" testId="counter-messages" value={metrics?.messages} />
      <Counter
        label="Violations"
        note="last 24 h"
        testId="counter-violations"
        value={metrics?.violations}
        wide
      >
        <SeveritySplit metrics={metrics} />
      </Counter>
      <Counter label="Members" testId="counter-members" value={metrics?.member_count}>
        <p class="counter-note">
          {metrics !== null && metrics.member_count === null ? "not known yet" : "now"}
        </p>
      </Counter>
      <Counter label="Joins" testId="counter-joins" value={metrics?.joins}>
        <p class="counter-note">last 24 h{metrics !== null && ` · ${formatNumber(metrics.leaves)} left`}</p>
      </Counter>
      <div class="counter">
        <h2>Bot</h2>
        <p class="counter-value bot" data-testid="counter-bot" data-online={metrics?.bot_online}>
          {metrics === null ? <Blank /> : metrics.bot_online ? "Online" : "Offline"}
        </p>
        <p class="counter-note">
          {metrics === null ? " " : metrics.bot_online ? "watching" : "nothing is being checked"}
        </p>
      </div>
    </section>
  );
}

interface CounterProps {
  label: string;
  testId: string;
  /** undefined while loading, null when nobody knows. */
  value: number | null | undefined;
  note?: string;
  wide?: boolean;
  children?: ComponentChildren;
}

function Counter({ label, testId, value, note, wide = false, children }: CounterProps): JSX.Element {
  return (
    <div class={wide ? "counter wide" : "counter"}>
      <h2>
        {label}
        {note !== undefined && wide && <span class="counter-aside">{note}</span>}
      </h2>
      <p class="counter-value" data-testid={testId} data-value={value ?? undefined}>
        {value === undefined ? <Blank /> : value === null ? "–" : formatNumber(value)}
      </p>
      {note !== undefined && !wide && <p class="counter-note">{note}</p>}
      {children}
    </div>
  );
}

function Blank(): JSX.Element {
  return (
    <span class="skeleton blank">
      <span class="visually-hidden">loading</span>
    </span>
  );
}

/** A bar for the proportions, words and numbers for what they are. */
function SeveritySplit({ metrics }: { metrics: Metrics | null }): JSX.Element {
  const counts = SEVERITIES.map((severity) => ({ severity, count: metrics?.by_severity[severity] ?? 0 }));
  const total = counts.reduce((sum, { count }) => sum + count, 0);
  let from = 0;
  return (
    <>
      <svg class="split" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">
        <rect class="split-ground" width="100" height="1" />
        {total > 0 &&
          counts.map(({ severity, count }) => {
            const x = from;
            from += (count / total) * 100;
            return <rect key={severity} class={`fill-${severity}`} x={x} width={from - x} height="1" />;
          })}
      </svg>
      <ul class="split-words">
        {counts.map(({ severity, count }) => (
          <li key={severity}>
            <span class={`key back-${severity}`} aria-hidden="true" />
            {SEVERITY_WORDS[severity]} <b data-testid={`counter-${severity}`}>{formatNumber(count)}</b>
          </li>
        ))}
      </ul>
    </>
  );
}
