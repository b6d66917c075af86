/** Tells a screen reader about new violations, summed up. */

import { type Signal, useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import type { Feed } from "../live/feed.ts";
import { arrivalsSummary } from "./words.ts";

/** Often enough to be useful, seldom enough to let someone listen to something else. */
const SUMMARY_EVERY_MS = 10_000;

export function Arrivals({ feed }: { feed: Signal<Feed> }): JSX.Element {
  const words = useSignal("");
  useEffect(() => {
    let told = feed.value.arrived;
    const timer = setInterval(() => {
      const now = feed.value.arrived;
      if (now.all > told.all) {
        words.value = arrivalsSummary({ all: now.all - told.all, grave: now.grave - told.grave });
      }
      told = now;
    }, SUMMARY_EVERY_MS);
    return () => clearInterval(timer);
  }, []);

  return (
    <p class="visually-hidden" role="status" aria-live="polite">
      {words.value}
    </p>
  );
}
