/** Addresses and what they mean. Pure, so that tests can read them. */

export type Route = { view: "servers" } | { view: "guild"; guildId: string } | { view: "not_found" };

const MAX_ID = 2n ** 63n - 1n;

export function routeOf(path: string): Route {
  if (path === "/" || path === "/servers" || path === "/servers/") return { view: "servers" };
  const guildId = /^\/servers\/([1-9]\d{0,18})\/?$/.exec(path)?.[1];
  // As the server has it: an id is canonical, or no id. Another would be asked for, and never be answered.
  if (guildId !== undefined && BigInt(guildId) <= MAX_ID) return { view: "guild", guildId };
  return { view: "not_found" };
}

export function guildPath(guildId: string): string {
  return `/servers/${guildId}`;
}

/** What the login left behind when it did not work out. */
export function loginErrorSentence(code: string): string {
  switch (code) {
    case "access_denied":
      return "You said no on Discord's page, and that is fine. Nothing was shared.";
    case "state_mismatch":
    case "expired":
      return "That login took too long or came from another tab. Please try once more.";
    default:
      return "Logging in with Discord did not work this time. Please try again.";
  }
}
