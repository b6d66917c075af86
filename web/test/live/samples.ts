import type { Metrics, MetricsUpdate, Page, Violation } from "../../src/api/types.ts";

export function violation(part: Partial<Violation> = {}): Violation {
  const ts = part.ts ?? 1_000;
  return {
    id: "v1",
    guild_id: "1",
    channel_id: "2",
    channel_name: "general",
    message_id: "3",
    user: { id: "4", username: "mara", display_name: "Mara", avatar_url: null },
    detection: "invite_link",
    rule: "invite_link",
    severity: "medium",
    action: "delete",
    action_status: "done",
    excerpt: "hello",
    ts,
    committed_at: ts,
    review: null,
    ...part,
  };
}

export function page(data: Violation[], part: Partial<Page<Violation>> = {}): Page<Violation> {
  return {
    data,
    total: data.length,
    page: 1,
    per_page: 50,
    has_next: false,
    has_prev: false,
    is_empty: data.length === 0,
    message: null,
    ...part,
  };
}

const TOTALS = {
  since: 0,
  until: 0,
  messages: 0,
  violations: 0,
  by_severity: { low: 0, medium: 0, high: 0, critical: 0 },
  joins: 0,
  leaves: 0,
  member_count: 10,
  bot_online: true,
};

export function metrics(part: Partial<Metrics> = {}): Metrics {
  return { guild_id: "1", period: "day", ...TOTALS, series: [], ...part };
}

export function update(part: Partial<MetricsUpdate> = {}): MetricsUpdate {
  return { ...TOTALS, hour: { ts: 0, messages: 0, violations: 0 }, ...part };
}
