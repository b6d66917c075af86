/** How long to wait before the next try. Randomness comes in from outside, so tests need none. */

export const BACKOFF_FIRST_MS = 1_000;
export const BACKOFF_LIMIT_MS = 60_000;

/** After a restart everyone comes back at once; this spreads them. */
export const RESTART_SPREAD_MS = 5_000;

/** Doubles from 1 s to 60 s; the upper half is drawn, so that a crowd does not stay in step. */
export function backoffMs(attempt: number, random: number): number {
  const full = Math.min(BACKOFF_LIMIT_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(full * (0.5 + random / 2));
}

export function restartDelayMs(random: number): number {
  return Math.round(500 + random * (RESTART_SPREAD_MS - 500));
}
