// Made from openapi.json by `npm run api-types`; not to be edited.

/**
 * A person with the role they were given; ``assigned_by`` is null when no person gave it.
 */
export interface AssignedRole {
  assigned_at: number;
  assigned_by: UserView | null;
  role: "owner" | "admin" | "moderator" | "viewer";
  user: UserView;
}
/**
 * A person, as far as we know them: names are null when nobody has told us.
 */
export interface UserView {
  avatar_url: string | null;
  display_name: string | null;
  id: string;
  username: string | null;
}
/**
 * A message with one of these words breaks the rule, in whatever case.
 */
export interface BannedWords {
  action?: "none" | "delete";
  enabled?: boolean;
  kind: "banned_word";
  severity?: "low" | "medium" | "high" | "critical";
  /**
   * @minItems 1
   * @maxItems 500
   */
  words: string[];
}
/**
 * A shard that hears nothing of its guilds now.
 */
export interface BlindShardView {
  shard: number;
  since?: number | null;
}
/**
 * Whose warnings to clear.
 */
export interface BulkClear {
  /**
   * @minItems 1
   * @maxItems 100
   */
  user_ids: string[];
}
/**
 * All replicas' caches. When not ``complete``, only the replica that answers could be asked.
 */
export interface CacheStats {
  complete: boolean;
  replicas: ReplicaView[];
  total: {
    [k: string]: CacheView;
  };
}
/**
 * One replica's caches, by name.
 */
export interface ReplicaView {
  caches: {
    [k: string]: CacheView;
  };
  id: string;
}
/**
 * What one cache did, since its replica began; ``hit_rate`` counts shared loads as hits.
 */
export interface CacheView {
  entries: number;
  failures: number;
  hit_rate: number | null;
  hits: number;
  invalidations: number;
  misses: number;
  shared: number;
}
/**
 * An actor, or the front door, as its supervisor sees it.
 */
export interface ChildView {
  error: string | null;
  name: string;
  restarts: number;
  since: number;
  state: "starting" | "healthy" | "unhealthy" | "backing_off";
}
/**
 * Whose warnings were cleared: those who had any.
 */
export interface Cleared {
  cleared: string[];
}
/**
 * A whole configuration, made from what was there at ``version``.
 */
export interface ConfigChange {
  config: GuildConfig;
  version: number;
}
/**
 * What holds for a guild as a whole. A field that is left out has its default.
 */
export interface GuildConfig {
  retention_days?: number;
  timezone?: string;
}
/**
 * What every answer with a status of 400 or more carries.
 */
export interface ErrorBody {
  details?: unknown;
  error: string;
  error_code: string;
  request_id: string;
}
/**
 * A time for which a source heard nothing ("blind"), or had to give events up ("overflow").
 *
 * Or one that a restore of the database took back ("restored"), or of which a shard runner lost what it had
 * heard, together with the node that it was on ("spool_lost").
 */
export interface GapView {
  lost_events: number;
  reason: string;
  recorded_at: number;
  since: number;
  source: string;
  until: number;
}
/**
 * The role that was just given; ``hint`` says when Discord knows nobody of this id.
 */
export interface GivenRole {
  assigned_at: number;
  assigned_by: UserView | null;
  hint: string | null;
  role: "owner" | "admin" | "moderator" | "viewer";
  user: UserView;
}
/**
 * Whether this replica can do its work, and which of its needs is not met.
 */
export interface Health {
  ailing: string[];
  away: string[];
  database: string;
  network: "ok" | "degraded" | "unknown";
  sessions: string;
  status: string;
}
/**
 * One part of the score. ``value`` is what was measured, null when there was nothing to measure.
 */
export interface HealthPart {
  half: number;
  meaning: string;
  name: string;
  score: number;
  value: number | null;
  weight: number;
}
/**
 * A guild host. One that does not answer has an id and the guilds it was given, no figures.
 */
export interface HostView {
  answers: boolean;
  committed_events?: number | null;
  dedicated_guilds: string[];
  guilds?: number | null;
  id: string;
  incarnation?: number | null;
  poison_events?: number | null;
  refused_batches?: number | null;
  slots: number;
  store_available?: boolean | null;
  waiting_events?: number | null;
  watched_guilds?: number | null;
}
/**
 * One bucket of a chart; ``ts`` is its start.
 */
export interface HourView {
  messages: number;
  ts: number;
  violations: number;
}
/**
 * A message with an invite to another server breaks the rule.
 */
export interface InviteLinks {
  action?: "none" | "delete";
  /**
   * @maxItems 100
   */
  allowed?: string[];
  enabled?: boolean;
  kind: "invite_link";
  severity?: "low" | "medium" | "high" | "critical";
}
/**
 * One entry. ``actor`` is null when it was nobody who is known; ``target`` is what it was done to.
 */
export interface Logged {
  action: string;
  actor: UserView | null;
  at: number;
  details: {
    [k: string]: unknown;
  };
  id: string;
  request_id: string | null;
  target: string | null;
}
/**
 * An hour that stands out against what is usual for the guild.
 */
export interface MajorEvent {
  deviation: number;
  ts: number;
  usual: number;
  violations: number;
}
/**
 * A role of Discord, and the role here that comes with it. @everyone has the server's own id.
 */
export interface MappedRole {
  discord_role_id: string;
  mapped_at: number;
  mapped_by: UserView | null;
  role: "owner" | "admin" | "moderator" | "viewer";
}
/**
 * Who is logged in. ``csrf_token`` goes into the ``X-CSRF-Token`` header of every change.
 */
export interface Me {
  csrf_token: string;
  operator: boolean;
  user: UserView;
}
/**
 * A message that mentions more people than this breaks the rule.
 */
export interface MentionFlood {
  action?: "none" | "delete";
  enabled?: boolean;
  kind: "mention_flood";
  max_mentions?: number;
  severity?: "low" | "medium" | "high" | "critical";
}
/**
 * How much happened.
 */
export interface Metrics {
  bot_online: boolean;
  by_severity: SeverityCounts;
  guild_id: string;
  joins: number;
  leaves: number;
  member_count: number | null;
  messages: number;
  period: "hour" | "day" | "week" | "month";
  series: HourView[];
  since: number;
  until: number;
  violations: number;
}
/**
 * Violations by severity.
 */
export interface SeverityCounts {
  critical: number;
  high: number;
  low: number;
  medium: number;
}
/**
 * Everything at one look. ``director_answers`` is false when nobody can say what the hosts do.
 */
export interface NetworkView {
  director_answers: boolean;
  gaps: GapView[];
  hosts: HostView[];
  placement_version: number | null;
  replicas?: ReplicaHealth[];
  runners: RunnerView[];
  shards: ShardsView;
  supervised: ChildView[] | null;
  totals: Totals;
}
/**
 * An API replica or a relay, as it says itself how it is.
 */
export interface ReplicaHealth {
  ailing: string[];
  blocked_ms: number;
  id: string;
  kind: "api" | "relay";
}
/**
 * A shard runner. One that does not answer has an id, no figures.
 */
export interface RunnerView {
  answers: boolean;
  blind_shards?: BlindShardView[] | null;
  id: string;
  lost_events?: number | null;
  messages?: number | null;
  oldest_spooled?: number | null;
  refusal?: string | null;
  sent_events?: number | null;
  shards?: number | null;
  shards_connected?: number | null;
  spooled_batches?: number | null;
  spooled_bytes?: number | null;
  violations?: number | null;
  waiting_events?: number | null;
}
/**
 * How far all shards are with connecting to Discord's gateway.
 */
export interface ShardsView {
  connected: number;
  expected_s?: number | null;
  total: number;
  waits_for?: string | null;
}
/**
 * What the database counts, over the last hour and the one that runs.
 */
export interface Totals {
  guilds: number;
  guilds_online: number;
  messages: number;
  open_poison: number;
  violations: number;
}
/**
 * The mapping that was just made; ``hint`` says when the server has no role of this id on Discord.
 */
export interface NewMapping {
  discord_role_id: string;
  hint: string | null;
  mapped_at: number;
  mapped_by: UserView | null;
  role: "owner" | "admin" | "moderator" | "viewer";
}
/**
 * What a moderator says of a violation.
 */
export interface NewReview {
  note?: string | null;
  verdict: "confirmed" | "false_positive" | "dismissed";
  version: number;
}
/**
 * How the actions that a rule called for ended.
 */
export interface Outcomes {
  done: number;
  failed: number;
  pending: number;
}
/**
 * One of the person's own sessions. Times are Unix milliseconds.
 */
export interface OwnSession {
  created_at: number;
  current: boolean;
  id: string;
  used_at: number;
}
/**
 * This interface was referenced by `Schemas`'s JSON-Schema
 * via the `definition` "Page_AssignedRole_".
 */
export interface Page_AssignedRole_ {
  data: AssignedRole[];
  has_next: boolean;
  has_prev: boolean;
  is_empty: boolean;
  message: string | null;
  page: number;
  per_page: number;
  total: number;
}
/**
 * This interface was referenced by `Schemas`'s JSON-Schema
 * via the `definition` "Page_Logged_".
 */
export interface Page_Logged_ {
  data: Logged[];
  has_next: boolean;
  has_prev: boolean;
  is_empty: boolean;
  message: string | null;
  page: number;
  per_page: number;
  total: number;
}
/**
 * This interface was referenced by `Schemas`'s JSON-Schema
 * via the `definition` "Page_MappedRole_".
 */
export interface Page_MappedRole_ {
  data: MappedRole[];
  has_next: boolean;
  has_prev: boolean;
  is_empty: boolean;
  message: string | null;
  page: number;
  per_page: number;
  total: number;
}
/**
 * This interface was referenced by `Schemas`'s JSON-Schema
 * via the `definition` "Page_ServerRule_".
 */
export interface Page_ServerRule_ {
  data: ServerRule[];
  has_next: boolean;
  has_prev: boolean;
  is_empty: boolean;
  message: string | null;
  page: number;
  per_page: number;
  total: number;
}
/**
 * One rule. ``is_default`` says that the server has not replaced it; its version is 0 then.
 */
export interface ServerRule {
  is_default: boolean;
  name: string;
  rule: BannedWords | InviteLinks | PhishingLinks | MentionFlood | RepeatedMessage;
  updated_at: number | null;
  updated_by: UserView | null;
  version: number;
}
/**
 * A message with a link to one of these domains, or to a part of one, breaks the rule.
 */
export interface PhishingLinks {
  action?: "none" | "delete";
  /**
   * @minItems 1
   * @maxItems 1000
   */
  domains: string[];
  enabled?: boolean;
  kind: "phishing_link";
  severity?: "low" | "medium" | "high" | "critical";
}
/**
 * The same text so often by one person within the window breaks the rule.
 */
export interface RepeatedMessage {
  action?: "none" | "delete";
  enabled?: boolean;
  kind: "repeated_message";
  repeats?: number;
  severity?: "low" | "medium" | "high" | "critical";
  window_s?: number;
}
/**
 * This interface was referenced by `Schemas`'s JSON-Schema
 * via the `definition` "Page_TopOffender_".
 */
export interface Page_TopOffender_ {
  data: TopOffender[];
  has_next: boolean;
  has_prev: boolean;
  is_empty: boolean;
  message: string | null;
  page: number;
  per_page: number;
  total: number;
}
/**
 * A person with violations in the period.
 */
export interface TopOffender {
  by_severity: SeverityCounts;
  last_violation: number;
  user: UserView;
  violations: number;
}
/**
 * This interface was referenced by `Schemas`'s JSON-Schema
 * via the `definition` "Page_Warned_".
 */
export interface Page_Warned_ {
  data: Warned[];
  has_next: boolean;
  has_prev: boolean;
  is_empty: boolean;
  message: string | null;
  page: number;
  per_page: number;
  total: number;
}
/**
 * Somebody, and how often they were warned since their warnings were last cleared.
 */
export interface Warned {
  cleared_at: number | null;
  cleared_by: UserView | null;
  count: number;
  last_at: number | null;
  user: UserView;
}
/**
 * An hour of the week with many violations. Weekdays count from Monday, which is 0.
 */
export interface Peak {
  hour: number;
  per_hour: number;
  violations: number;
  weekday: number;
}
/**
 * A sign of life.
 */
export interface Pong {
  alive?: boolean;
}
/**
 * What a moderator said of a violation; of several reviews the last one stands.
 */
export interface ReviewView {
  at: number;
  by: string;
  note: string | null;
  verdict: "confirmed" | "false_positive" | "dismissed";
  version: number;
}
/**
 * The role that is to be given.
 */
export interface RoleWanted {
  role: "owner" | "admin" | "moderator" | "viewer";
}
/**
 * A whole rule, made from what was there at ``version``; 0 for a new one and in place of a default.
 */
export interface RuleChange {
  rule: BannedWords | InviteLinks | PhishingLinks | MentionFlood | RepeatedMessage;
  version: number;
}
/**
 * What a rule did; ``false_positive_share`` is of its reviewed violations, null without reviews.
 */
export interface RuleEffectiveness {
  actions: Outcomes;
  by_severity: SeverityCounts;
  false_positive_share: number | null;
  false_positives: number;
  reviewed: number;
  rule: string;
  trend: Trend;
  violations: number;
}
/**
 * Violations against those of as many hours before; ``change`` is null when there were none then.
 */
export interface Trend {
  change: number | null;
  previous: number;
}
/**
 * What each rule did, who has most violations first; rules that nobody broke are not there.
 */
export interface RulesEffectiveness {
  guild_id: string;
  message: string | null;
  period: "hour" | "day" | "week" | "month";
  rules: RuleEffectiveness[];
  since: number;
  until: number;
  violations: number;
}
/**
 * A server that the person may look at, and what they may do there.
 *
 * ``invite_url`` is there when the bot is not.
 */
export interface Server {
  bot_online: boolean;
  bot_present: boolean;
  icon_url: string | null;
  id: string;
  invite_url: string | null;
  member_count: number | null;
  name: string;
  permissions: (
    | "view_dashboard"
    | "view_violations"
    | "view_warnings"
    | "manage_violations"
    | "manage_warnings"
    | "export_data"
    | "view_config"
    | "view_rules"
    | "update_config"
    | "update_rules"
    | "delete_rules"
    | "manage_roles"
  )[];
  role: "owner" | "admin" | "moderator" | "viewer";
}
/**
 * The configuration as it stands. Version 0 is the default that nobody has changed yet.
 */
export interface ServerConfig {
  config: GuildConfig;
  updated_at: number | null;
  updated_by: UserView | null;
  version: number;
}
/**
 * How well a server is, from 0 to 100: the sum of the parts' scores, weighted.
 *
 * With ``limited_data`` too little happened for the score to say much.
 */
export interface ServerHealth {
  by_severity: SeverityCounts;
  escalated_people: number;
  guild_id: string;
  limited_data: boolean;
  message: string | null;
  messages: number;
  parts: HealthPart[];
  period: "hour" | "day" | "week" | "month";
  response_ms: number | null;
  score: number;
  since: number;
  until: number;
  violations: number;
}
/**
 * One page of the servers that the person may look at.
 */
export interface ServerPage {
  data: Server[];
  has_next: boolean;
  has_prev: boolean;
  is_empty: boolean;
  message: string | null;
  page: number;
  per_page: number;
  total: number;
  unchecked: number;
}
/**
 * When violations happened, in local time: ``heatmap[weekday][hour]``, Monday first.
 *
 * ``major_events`` are hours of the period that stand out against the server's usual ones.
 */
export interface TemporalAnalytics {
  guild_id: string;
  heatmap: number[][];
  major_events: MajorEvent[];
  message: string | null;
  peaks: Peak[];
  period: "hour" | "day" | "week" | "month";
  quiet_hours: number[];
  since: number;
  timezone: string;
  until: number;
  violations: number;
}
/**
 * A page of violations. ``next`` and ``prev`` are where the list goes on, whatever comes meanwhile.
 *
 * Where it was asked for by one of these, ``page`` counts on from there.
 */
export interface ViolationPage {
  data: ViolationView[];
  has_next: boolean;
  has_prev: boolean;
  is_empty: boolean;
  message: string | null;
  next: string | null;
  page: number;
  per_page: number;
  prev: string | null;
  total: number;
}
/**
 * One violation as moderators see it.
 */
export interface ViolationView {
  action: "none" | "delete";
  action_status: "none" | "pending" | "done" | "failed";
  channel_id: string;
  channel_name: string | null;
  committed_at: number;
  detection: "invite_link" | "phishing_link" | "banned_word" | "mention_flood" | "repeated_message";
  excerpt: string;
  guild_id: string;
  id: string;
  message_id: string;
  review: ReviewView | null;
  rule: string;
  severity: "low" | "medium" | "high" | "critical";
  ts: number;
  user: UserView;
}
