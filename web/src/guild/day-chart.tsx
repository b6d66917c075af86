/** The last 24 hours, hour by hour: messages and violations, each on its own scale, with a table behind. */

import { useSignal } from "@preact/signals";
import type { JSX, TargetedPointerEvent } from "preact";
import type { HourPoint, Metrics } from "../api/types.ts";
import { HOUR_MS, lastDay } from "../live/metrics.ts";
import { formatClock, formatNumber, plural } from "../ui/format.ts";

/** In the drawing's own units; it is stretched to the width there is. */
const SLOT = 10;
const BAR = 7;
const HEIGHT = 40;

export function DayChart({ metrics }: { metrics: Metrics | null }): JSX.Element {
  const picked = useSignal<number | null>(null);
  const hours = metrics === null ? [] : lastDay(metrics);
  const point = picked.value === null ? undefined : hours[picked.value];
  return (
    <section class="card day" aria-labelledby="day-title">
      <div class="card-header">
        <h2 id="day-title">By hour</h2>
        <p class="day-picked" aria-hidden="true">
          {point === undefined ? "last 24 h" : hourWords(point)}
        </p>
      </div>
      {metrics === null ? (
        <div class="skeleton day-skeleton" />
      ) : (
        <>
          <Bars
            hours={hours}
            what="violations"
            picked={picked.value}
            onPick={(index) => (picked.value = index)}
          />
          <Bars
            hours={hours}
            what="messages"
            picked={picked.value}
            onPick={(index) => (picked.value = index)}
          />
          <p class="axis" aria-hidden="true">
            {[0, 8, 16, 23].map((index) => (
              <span key={index}>{formatClock(hours[index]?.ts ?? 0)}</span>
            ))}
          </p>
          <HourTable hours={hours} />
        </>
      )}
    </section>
  );
}

function hourWords(point: HourPoint): string {
  const span = `${formatClock(point.ts)}–${formatClock(point.ts + HOUR_MS)}`;
  return `${span} · ${plural(point.violations, "violation")} · ${plural(point.messages, "message")}`;
}

interface BarsProps {
  hours: HourPoint[];
  what: "messages" | "violations";
  picked: number | null;
  onPick: (index: number | null) => void;
}

function Bars({ hours, what, picked, onPick }: BarsProps): JSX.Element {
  const most = Math.max(1, ...hours.map((hour) => hour[what]));
  const pick = (event: TargetedPointerEvent<SVGSVGElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    const index = Math.floor(((event.clientX - box.left) / box.width) * hours.length);
    onPick(Math.min(hours.length - 1, Math.max(0, index)));
  };
  return (
    <figure class={`bars ${what}`} aria-hidden="true">
      <figcaption>
        {what === "messages" ? "Messages" : "Violations"}
        <span class="bars-most">
          most in an hour: {formatNumber(Math.max(0, ...hours.map((hour) => hour[what])))}
        </span>
      </figcaption>
      <svg
        aria-hidden="true"
        viewBox={`0 0 ${hours.length * SLOT} ${HEIGHT}`}
        preserveAspectRatio="none"
        onPointerMove={pick}
        onPointerDown={pick}
        onPointerLeave={() => onPick(null)}
      >
        {hours.map((hour, index) => {
          // An hour with a single violation must not look like an hour with none.
          const height = hour[what] === 0 ? 0.6 : Math.max(2, (hour[what] / most) * HEIGHT);
          const classes = `bar${hour[what] === 0 ? " none" : ""}${index === picked ? " picked" : ""}`;
          return (
            <rect
              key={hour.ts}
              class={classes}
              x={index * SLOT + (SLOT - BAR) / 2}
              y={HEIGHT - height}
              width={BAR}
              height={height}
            />
          );
        })}
      </svg>
    </figure>
  );
}

function HourTable({ hours }: { hours: HourPoint[] }): JSX.Element {
  return (
    <details class="behind">
      <summary>Show as a table</summary>
      <table>
        <caption class="visually-hidden">Violations and messages by hour, newest first</caption>
        <thead>
          <tr>
            <th scope="col">Hour</th>
            <th scope="col">Violations</th>
            <th scope="col">Messages</th>
          </tr>
        </thead>
        <tbody>
          {hours.toReversed().map((hour) => (
            <tr key={hour.ts}>
              <th scope="row">{formatClock(hour.ts)}</th>
              <td>{formatNumber(hour.violations)}</td>
              <td>{formatNumber(hour.messages)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
