import assert from "node:assert/strict";
import { test } from "node:test";
import { actionWords, arrivalsSummary, detectionWords, personWords } from "../src/guild/words.ts";
import { loginErrorSentence, routeOf } from "../src/routes.ts";
import { formatAgo, initialsOf, toneOf } from "../src/ui/format.ts";
import { nextTheme } from "../src/ui/theme.ts";
import { violation } from "./live/samples.ts";

test("addresses", () => {
  assert.deepEqual(routeOf("/"), { view: "servers" });
  assert.deepEqual(routeOf("/servers/123"), { view: "guild", guildId: "123" });
  assert.deepEqual(routeOf("/servers/123/"), { view: "guild", guildId: "123" });
  assert.deepEqual(routeOf("/servers/9223372036854775807"), {
    view: "guild",
    guildId: "9223372036854775807",
  });
  const noIds = ["0", "040", "9223372036854775808", "99999999999999999999", "-1", "1.0", "٤٠"];
  for (const path of [
    "/servers/x",
    "/servers/1/2",
    "/nope",
    "/servers/%2e%2e",
    ...noIds.map((id) => `/servers/${id}`),
  ]) {
    assert.deepEqual(routeOf(path), { view: "not_found" });
  }
});

test("every code of the login has a kind sentence", () => {
  for (const code of ["access_denied", "state_mismatch", "anything"]) {
    assert.match(loginErrorSentence(code), /\.$/);
  }
});

test("detections and actions in words", () => {
  assert.equal(detectionWords("phishing_link"), "posted a phishing link");
  assert.equal(detectionWords("zalgo_text"), "broke the rule on zalgo text");
  assert.equal(actionWords(violation({ action_status: "pending" })).text, "Deleting…");
  assert.equal(actionWords(violation({ action_status: "done" })).text, "Deleted");
  assert.equal(actionWords(violation({ action_status: "failed" })).text, "Could not delete");
  assert.equal(actionWords(violation({ action: "none", action_status: "none" })).text, "Noted only");
});

test("a person without a name is said to be unknown, not made up", () => {
  const user = { id: "4", username: null, display_name: null, avatar_url: null };
  assert.deepEqual(personWords(violation({ user })), { name: "Unknown user", handle: "4", known: false });
  assert.deepEqual(personWords(violation({ user: { ...user, username: "mara" } })), {
    name: "mara",
    handle: null,
    known: true,
  });
});

test("many arrivals are one sentence", () => {
  assert.equal(arrivalsSummary({ all: 1, grave: 0 }), "1 new violation.");
  assert.equal(arrivalsSummary({ all: 12, grave: 2 }), "12 new violations, 2 of high or critical severity.");
});

test("how long ago", () => {
  const past = (ms: number) => formatAgo(0, ms);
  assert.deepEqual([-5_000, 0, 15_000, 60_000, 3_600_000, 86_400_000 * 3].map(past), [
    "now",
    "now",
    "15 s ago",
    "1 min ago",
    "1 h ago",
    "3 d ago",
  ]);
});

test("initials and colours", () => {
  assert.equal(initialsOf("The Lanternworks"), "TL");
  assert.equal(initialsOf("🚀 moon crew"), "MC");
  assert.equal(initialsOf("🚀"), "?");
  assert.equal(initialsOf("мир"), "М");
  assert.equal(toneOf("123"), toneOf("123"));
});

test("the theme goes round", () => {
  assert.equal(nextTheme(nextTheme(nextTheme("system"))), "system");
});
