/** Numbers, times and names as a person reads them. */

const NUMBER = new Intl.NumberFormat(undefined);
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export function formatNumber(value: number): string {
  return NUMBER.format(value);
}

export function formatClock(ts: number): string {
  return CLOCK.format(ts);
}

export function formatExact(ts: number): string {
  return EXACT.format(ts);
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Clocks differ a little between machines, so the near future is "now" too. */
export function formatAgo(ts: number, now: number): string {
  const past = now - ts;
  if (past < 15_000) return "now";
  if (past < MINUTE) return `${Math.floor(past / 1000)} s ago`;
  if (past < HOUR) return `${Math.floor(past / MINUTE)} min ago`;
  if (past < DAY) return `${Math.floor(past / HOUR)} h ago`;
  return `${Math.floor(past / DAY)} d ago`;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatNumber(count)} ${count === 1 ? one : many}`;
}

/** Up to two letters, whole characters: a name may well begin with an emoji. */
export function initialsOf(name: string): string {
  const words = name.split(/[\s_\-.·]+/u).filter((word) => /[\p{L}\p{N}]/u.test(word));
  const letters = words.slice(0, 2).map((word) => /[\p{L}\p{N}]/u.exec(word)?.[0] ?? "");
  return letters.join("").toLocaleUpperCase() || "?";
}

export const TONES = 6;

/** The same id has the same colour everywhere. */
export function toneOf(id: string): number {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + character.charCodeAt(0)) % 9973;
  return sum % TONES;
}
