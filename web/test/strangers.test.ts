import assert from "node:assert/strict";
import { test } from "node:test";
import { personWords } from "../src/guild/words.ts";
import { isolated, nameOr, tame } from "../src/ui/strangers.ts";
import { violation } from "./live/samples.ts";

test("what turns a line around or hides is shown by its name", () => {
  assert.equal(tame("\u202egpj.exe"), "[U+202E]gpj.exe");
  assert.equal(tame("a\u2066b\u2069\u200f"), "a[U+2066]b[U+2069][U+200F]");
  assert.equal(tame("zero\u200bwidth\ufeff"), "zero[U+200B]width[U+FEFF]");
  assert.equal(tame("bell\u0007"), "bell[U+0007]");
});

test("marks do not pile up", () => {
  assert.equal(tame(`z${"\u0335".repeat(40)}a`), `z${"\u0335".repeat(3)}a`);
});

test("living languages and emoji stay as they are", () => {
  for (const text of [
    "العربية",
    "می\u200cخواهم",
    "\u{1f468}\u200d\u{1f469}\u200d\u{1f467}",
    "tiếng Việt",
    "e\u0302\u0301",
    "สวัสดี",
  ]) {
    assert.equal(tame(text), text);
  }
});

test("a name of which nothing can be seen is replaced", () => {
  for (const name of [
    "\u3164",
    "\u3164\u3164",
    " ",
    "\u200d",
    "\u2800",
    "\u00a0",
    "\u0335",
    "\ufe0f",
    "\u202e",
    "",
    null,
  ]) {
    assert.equal(nameOr(name, "5"), "5", JSON.stringify(name));
  }
  assert.equal(nameOr("\u3164a", "5"), "\u3164a");
});

test("a person with an invisible name is known by another of theirs, or by the id", () => {
  const user = { id: "42", username: "ada", display_name: "\u3164", avatar_url: null };
  assert.deepEqual(personWords(violation({ user })), { name: "ada", handle: "@ada", known: true });
  const nobody = { ...user, username: "\u3164" };
  assert.deepEqual(personWords(violation({ user: nobody })), { name: "42", handle: null, known: true });
  const turned = { ...user, username: "\u202eada", display_name: "\u202eAda" };
  assert.equal(personWords(violation({ user: turned })).name, "[U+202E]Ada");
  assert.equal(personWords(violation({ user: turned })).handle, "@[U+202E]ada");
});

test("what takes no element is isolated by characters", () => {
  assert.equal(isolated("ada"), "\u2068ada\u2069");
});
