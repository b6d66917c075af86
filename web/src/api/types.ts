/** What the API answers. Ids are strings, times are Unix milliseconds. */

export interface User {
  id: string;
  username: string;
  display_name: string;
  avatar_url: string | null;
}

export interface Me {
  user: User;
  csrf_token: string;
}

export type Role = "owner" | "admin" | "moderator" | "viewer";

export interface Server {
  id: string;
  name: string;
  icon_url: string | null;
  member_count: number | null;
  role: Role;
  bot_present: boolean;
  invite_url: string | null;
}

export interface Page<Item> {
  data: Item[];
  total: number;
  page: number;
  per_page: number;
  has_next: boolean;
  has_prev: boolean;
  is_empty: boolean;
  message: string | null;
}

export const SEVERITIES = ["critical", "high", "medium", "low"] as const;
export type Severity = (typeof SEVERITIES)[number];

export type ActionStatus = "pending" | "done" | "failed" | "none";

export interface Violation {
  id: string;
  guild_id: string;
  channel_id: string;
  channel_name: string | null;
  message_id: string;
  user: {
    id: string;
    username: string | null;
    display_name: string | null;
    avatar_url: string | null;
  };
  /** invite_link, phishing_link, banned_word, mention_flood, repeated_message; more may come. */
  detection: string;
  rule: string;
  severity: Severity;
  action: "delete" | "none";
  action_status: ActionStatus;
  excerpt: string;
  ts: number;
  committed_at: number;
}

export interface HourPoint {
  ts: number;
  messages: number;
  violations: number;
}

/** Totals of a stretch of time. */
export interface Totals {
  since: number;
  until: number;
  messages: number;
  violations: number;
  by_severity: Record<Severity, number>;
  joins: number;
  leaves: number;
  member_count: number | null;
  bot_online: boolean;
}

export interface Metrics extends Totals {
  guild_id: string;
  period: "hour" | "day" | "week" | "month";
  series: HourPoint[];
}

/** Data of the `metrics_update` event: the last 24 hours, and the bucket of the current one. */
export interface MetricsUpdate extends Totals {
  hour: HourPoint;
}
