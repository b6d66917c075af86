/** The person's servers, read once and shared by the list and the switcher. */

import { signal } from "@preact/signals";
import { getServers } from "../api/endpoints.ts";
import type { Server } from "../api/types.ts";
import { messageOf } from "../session.ts";

export type ServerList =
  | { state: "loading" }
  | { state: "loaded"; servers: Server[]; unchecked: number }
  | { state: "failed"; message: string };

export const serverList = signal<ServerList>({ state: "loading" });

/** Shows what is known while it asks again; only the first read has nothing to show. */
export async function loadServers(): Promise<void> {
  if (serverList.value.state !== "loaded") serverList.value = { state: "loading" };
  try {
    serverList.value = { state: "loaded", ...(await getServers()) };
  } catch (error) {
    if (serverList.value.state !== "loaded")
      serverList.value = { state: "failed", message: messageOf(error) };
  }
}

/** The bot's servers first, then by name. */
export function inOrder(servers: readonly Server[], filter: string): Server[] {
  const wanted = filter.trim().toLocaleLowerCase();
  return servers
    .filter((server) => server.name.toLocaleLowerCase().includes(wanted))
    .sort((a, b) => Number(b.bot_present) - Number(a.bot_present) || a.name.localeCompare(b.name));
}

/** The link comes from the API, and still only a web address may become one. */
export function safeLink(url: string | null): string | null {
  return url !== null && /^https?:\/\//i.test(url) ? url : null;
}
