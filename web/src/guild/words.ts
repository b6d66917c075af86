/** What the wire's codes are called on the page. Pure tables. */

import type { Severity, Violation } from "../api/types.ts";
import type { Arrived } from "../live/feed.ts";
import { plural } from "../ui/format.ts";
import { nameOr } from "../ui/strangers.ts";

const DETECTIONS: Record<string, string> = {
  invite_link: "posted an invite link",
  phishing_link: "posted a phishing link",
  banned_word: "used a banned word",
  mention_flood: "mentioned too many people",
  repeated_message: "repeated the same message",
};

export function detectionWords(detection: string): string {
  return DETECTIONS[detection] ?? `broke the rule on ${detection.replaceAll("_", " ")}`;
}

export const SEVERITY_WORDS: Record<Severity, string> = {
  critical: "Critical",
  high: "High",
  medium: "Medium",
  low: "Low",
};

export interface ActionWords {
  text: string;
  tone: "waiting" | "done" | "failed" | "quiet";
}

export function actionWords({ action, action_status }: Violation): ActionWords {
  if (action === "none" || action_status === "none") return { text: "Noted only", tone: "quiet" };
  if (action_status === "pending") return { text: "Deleting…", tone: "waiting" };
  if (action_status === "done") return { text: "Deleted", tone: "done" };
  return { text: "Could not delete", tone: "failed" };
}

export interface PersonWords {
  name: string;
  handle: string | null;
  known: boolean;
}

/** Discord may not tell who it was; then the page says so instead of making someone up. */
export function personWords({ user }: Violation): PersonWords {
  if (user.username === null && user.display_name === null) {
    return { name: "Unknown user", handle: user.id, known: false };
  }
  const username = nameOr(user.username, "");
  const handle = username === "" || user.display_name === null ? null : `@${username}`;
  return { name: nameOr(user.display_name, username || user.id), handle, known: true };
}

/** One sentence for many rows: a screen reader that reads out each of them is no help in a raid. */
export function arrivalsSummary({ all, grave }: Arrived): string {
  const sentence = plural(all, "new violation");
  return grave === 0 ? `${sentence}.` : `${sentence}, ${grave} of high or critical severity.`;
}
