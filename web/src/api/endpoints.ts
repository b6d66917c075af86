/** One function for each thing the dashboard asks of the API. */

import { getJson, post } from "./client.ts";
import type { Me, Metrics, Page, Server, ServerPage, Violation } from "./types.ts";

export function getMe(): Promise<Me> {
  return getJson<Me>("/api/auth/me");
}

export function logOut(csrfToken: string): Promise<void> {
  return post("/api/auth/logout", csrfToken);
}

/** Where "Log in" goes: a full navigation, so that Discord's page and the cookie work as they should. */
export function loginUrl(next: string): string {
  return `/api/auth/login?next=${encodeURIComponent(next)}`;
}

/** Discord lets a person join at most 200 servers, so this is two requests at the very most. */
export async function getServers(): Promise<{ servers: Server[]; unchecked: number }> {
  const servers: Server[] = [];
  let unchecked = 0;
  for (let page = 1; page <= 10; page += 1) {
    const answer = await getJson<ServerPage>(`/api/servers?page=${page}&per_page=100`);
    servers.push(...answer.data);
    unchecked = answer.unchecked;
    if (!answer.has_next) break;
  }
  return { servers, unchecked };
}

export function getDayMetrics(guildId: string, signal?: AbortSignal): Promise<Metrics> {
  return getJson<Metrics>(`/api/servers/${encodeURIComponent(guildId)}/metrics?period=day`, signal);
}

export function getViolations(
  guildId: string,
  page: number,
  perPage: number,
  signal?: AbortSignal,
): Promise<Page<Violation>> {
  const path = `/api/servers/${encodeURIComponent(guildId)}/violations?page=${page}&per_page=${perPage}`;
  return getJson<Page<Violation>>(path, signal);
}
