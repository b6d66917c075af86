/** A made-up network for development: servers, people, and violations that keep coming. */

import { randomUUID } from "node:crypto";
import type { HourPoint, Metrics, MetricsUpdate, Server, Severity, Violation } from "../src/api/types.ts";

const HOUR_MS = 3_600_000;

export const ME = { id: "700", username: "rosalind", display_name: "Rosalind Achterberg", avatar_url: null };

const NAMES = [
  "The Lanternworks",
  "Pixel Foundry",
  "Rust & Ruin",
  "Moonlit Study Hall",
  "Speedrun Harbour",
  "Tabletop Tavern",
  "Synthwave Collective",
  "Northern Gardeners",
  "Indie Devs Anonymous",
  "Kestrel Esports",
];
const ROLES = ["owner", "admin", "moderator", "viewer"] as const;

export const SERVERS: Server[] = NAMES.map((name, index) => ({
  id: String(9001 + index),
  name,
  icon_url: null,
  member_count:
    index === 5 ? null : ([48_213, 1_902, 640, 12_550, 88, 0, 7_431, 215, 3_120, 159_004][index] ?? 0),
  role: ROLES[index % 4] ?? "viewer",
  permissions: ["view_dashboard", "view_violations", "view_warnings"],
  bot_present: index !== 7 && index !== 2,
  bot_online: index !== 7 && index !== 2,
  invite_url: index === 7 ? "https://discord.com/oauth2/authorize?client_id=1" : null,
}));

const PEOPLE = [
  ["mara.voss", "Mara Voss"],
  ["zed_the_third", "zed"],
  ["xX_trader_Xx", "CRYPTO GAINS 🚀"],
  ["ilya.k", "Ilya Korhonen"],
  ["noodle", "Noodle"],
  ["aaliyah_b", "Aaliyah"],
  ["bot4102", null],
  ["juniper.w", "Juniper Wren"],
  [null, null],
  ["a_very_long_username_indeed_32", "Bartholomew Featherstonehaugh-Cholmondeley III"],
] as const;

const CASES: [detection: Violation["detection"], severity: Severity, excerpts: string[]][] = [
  [
    "phishing_link",
    "critical",
    [
      "free nitro for the first 100 → dlscord-gift[.]example/claim",
      "steam gift 50$ hxxps://steamcornmunity[.]example",
    ],
  ],
  [
    "mention_flood",
    "high",
    ["@Ada @Ben @Chi @Dov @Eli @Fay @Gus @Hal @Ivy @Jon wake up", "@everyone @everyone @everyone"],
  ],
  ["invite_link", "medium", ["join my server discord[.]gg/█████ best giveaways", "discord[.]gg/█████"]],
  ["banned_word", "low", ["you absolute ████████, learn to play", "what the ████ was that"]],
  [
    "repeated_message",
    "low",
    [
      "selling account dm me · selling account dm me · selling account dm me · selling account dm me · selling account dm me · selling account dm me",
      "<b>first</b> first first",
    ],
  ],
];
const CHANNELS = ["general", "off-topic", "trading-post", "voice-chat", "help", null];

function pick<Item>(items: readonly Item[]): Item {
  const item = items[Math.floor(Math.random() * items.length)];
  if (item === undefined) throw new Error("nothing to pick from");
  return item;
}

export function makeViolation(guildId: string, ts: number): Violation {
  const [username, name] = pick(PEOPLE);
  const [detection, severity, excerpts] = Math.random() < 0.5 ? pick(CASES.slice(2)) : pick(CASES);
  const deletes = Math.random() < 0.85;
  const age = Date.now() - ts;
  return {
    id: randomUUID(),
    guild_id: guildId,
    channel_id: "31",
    channel_name: pick(CHANNELS),
    message_id: String(ts),
    user: {
      id: String(100 + PEOPLE.findIndex((person) => person[0] === username)),
      username,
      display_name: name,
      avatar_url: null,
    },
    detection,
    rule: detection,
    severity,
    action: deletes ? "delete" : "none",
    action_status: !deletes ? "none" : age < 5_000 ? "pending" : Math.random() < 0.06 ? "failed" : "done",
    excerpt: pick(excerpts),
    ts,
    committed_at: ts + 40,
    review: null,
  };
}

/** One server's truth: newest violation first, and a point for each hour. */
export class World {
  readonly violations: Violation[] = [];
  readonly #series: HourPoint[] = [];
  readonly #guild: Server;
  #joins = 37;
  botOnline = true;

  constructor(guild: Server, quiet: boolean) {
    this.#guild = guild;
    const now = Date.now();
    const hour = Math.floor(now / HOUR_MS) * HOUR_MS;
    for (let back = 23; back >= 0; back -= 1) {
      const ts = hour - back * HOUR_MS;
      const tide = 0.55 + 0.45 * Math.sin(((new Date(ts).getHours() - 12) / 24) * 2 * Math.PI);
      const span = back === 0 ? now - hour : HOUR_MS;
      const raid = back === 5 ? 40 : 0;
      const violations = quiet ? 0 : Math.round((2 + Math.random() * 9 + raid) * tide * (span / HOUR_MS));
      this.#series.push({
        ts,
        messages: Math.round((700 + Math.random() * 500) * tide * (span / HOUR_MS)),
        violations,
      });
      const times = Array.from({ length: violations }, () => ts + Math.random() * span).sort((a, b) => a - b);
      for (const time of times) this.violations.unshift(makeViolation(guild.id, Math.round(time)));
    }
  }

  add(): Violation {
    const violation = makeViolation(this.#guild.id, Date.now());
    violation.committed_at = Date.now();
    this.violations.unshift(violation);
    const hour = this.#hour();
    hour.violations += 1;
    hour.messages += 1 + Math.floor(Math.random() * 20);
    if (Math.random() < 0.1) this.#joins += 1;
    return violation;
  }

  metrics(): Metrics {
    const { hour, ...totals } = this.update();
    void hour;
    return { guild_id: this.#guild.id, period: "day", ...totals, series: this.#series };
  }

  update(): MetricsUpdate {
    const by_severity = { low: 0, medium: 0, high: 0, critical: 0 };
    for (const { severity } of this.violations) by_severity[severity] += 1;
    const hour = this.#hour();
    return {
      since: hour.ts - 23 * HOUR_MS,
      until: Date.now(),
      messages: this.#series.reduce((sum, point) => sum + point.messages, 0),
      violations: this.violations.length,
      by_severity,
      joins: this.#joins,
      leaves: 12,
      member_count: this.#guild.member_count === null ? null : this.#guild.member_count + this.#joins,
      bot_online: this.botOnline,
      hour: { ...hour },
    };
  }

  #hour(): HourPoint {
    const ts = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
    let hour = this.#series.at(-1);
    if (hour === undefined || hour.ts !== ts) {
      hour = { ts, messages: 0, violations: 0 };
      this.#series.push(hour);
      if (this.#series.length > 24) this.#series.shift();
    }
    return hour;
  }
}
