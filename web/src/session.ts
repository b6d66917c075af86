/** Who is looking: asked once, ended by any 401, by closing code 4001, or by logging out. */

import { signal } from "@preact/signals";
import { ApiError, onUnauthorized } from "./api/client.ts";
import { getMe, logOut as postLogOut } from "./api/endpoints.ts";
import type { Me } from "./api/types.ts";

export type Session =
  | { state: "asking" }
  | { state: "in"; me: Me }
  /** `ended`: there was a session a moment ago, and the login view says so. */
  | { state: "out"; ended: boolean }
  | { state: "unreachable"; message: string };

export const session = signal<Session>({ state: "asking" });

export function sessionOver(): void {
  if (session.value.state === "out") return; // several requests may hear it at once
  session.value = { state: "out", ended: session.value.state === "in" };
}

onUnauthorized(sessionOver);

export async function askWhoIsHere(): Promise<void> {
  session.value = { state: "asking" };
  try {
    session.value = { state: "in", me: await getMe() };
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return; // already noted
    session.value = { state: "unreachable", message: messageOf(error) };
  }
}

/** Answers a sentence when it did not work: a person who is still logged in must not believe otherwise. */
export async function logOut(): Promise<string | null> {
  if (session.value.state !== "in") return null;
  try {
    await postLogOut(session.value.me.csrf_token);
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 401))
      return `You are still logged in. ${messageOf(error)}`;
  }
  session.value = { state: "out", ended: false };
  return null;
}

export function messageOf(error: unknown): string {
  return error instanceof ApiError
    ? error.message
    : "Something went wrong on this page. Reloading it may help.";
}
