/** How long ago, kept up to date by one clock for the whole page. */

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { formatAgo, formatExact } from "./format.ts";

export const clock = signal(Date.now());
setInterval(() => {
  if (!document.hidden) clock.value = Date.now();
}, 10_000);

export function Ago({ ts }: { ts: number }): JSX.Element {
  return (
    <time class="ago" dateTime={new Date(ts).toISOString()} title={formatExact(ts)}>
      {formatAgo(ts, clock.value)}
    </time>
  );
}
