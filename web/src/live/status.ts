/** What a person is told about the connection. */

import type { LiveState } from "./machine.ts";

export type Status =
  | { kind: "connecting" }
  | { kind: "live" }
  | { kind: "reconnecting"; retryAt: number | null; attempt: number }
  | { kind: "offline"; why: "no_network" | "too_many_sockets" | "ended" };

export function statusOf({ phase, wasLive, attempt }: LiveState): Status {
  switch (phase.at) {
    case "live":
      return { kind: "live" };
    case "waiting":
      return { kind: "reconnecting", retryAt: phase.until, attempt };
    case "no_network":
      return { kind: "offline", why: "no_network" };
    case "ended":
      return { kind: "offline", why: phase.why === "too_many_sockets" ? "too_many_sockets" : "ended" };
    default:
      return wasLive ? { kind: "reconnecting", retryAt: null, attempt } : { kind: "connecting" };
  }
}
