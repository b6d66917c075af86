// @ts-check
/**
 * Writes src/api/schema.ts from openapi.json, which `guildhall openapi` prints. With --check it writes
 * nothing, and fails when the file is not what it would write.
 */

import { readFile, writeFile } from "node:fs/promises";
import { compile } from "json-schema-to-typescript";

const here = import.meta.dirname;
const source = `${here}/openapi.json`;
const target = `${here}/src/api/schema.ts`;

const document = JSON.parse(
  (await readFile(source, "utf8")).replaceAll('"#/components/schemas/', '"#/$defs/'),
);
/**
 * Takes the titles out: each would become a type of its own.
 * @param {unknown} schema
 * @returns {unknown}
 */
function untitled(schema) {
  if (Array.isArray(schema)) return schema.map(untitled);
  if (typeof schema !== "object" || schema === null) return schema;
  const kept = Object.entries(schema).filter(
    ([name, value]) => name !== "title" || typeof value !== "string",
  );
  return Object.fromEntries(kept.map(([name, value]) => [name, untitled(value)]));
}

const types = await compile({ $defs: untitled(document.components.schemas) }, "Schemas", {
  additionalProperties: false,
  bannerComment: "// Made from openapi.json by `npm run api-types`; not to be edited.",
  format: true,
  ignoreMinAndMaxItems: true,
  style: { printWidth: 110 },
  unreachableDefinitions: true,
  unknownAny: true,
});
// The root stands for nothing: only what it defines is wanted.
const wanted = types
  .replace(/export interface Schemas \{[^}]*\}\n/, "")
  .replaceAll(/ \*\n \* This interface was referenced by .*\n.*\n/g, "");

if (process.argv.includes("--check")) {
  const there = await readFile(target, "utf8").catch(() => "");
  if (there !== wanted) {
    console.error("src/api/schema.ts does not fit openapi.json: run `make api-types`.");
    process.exit(1);
  }
} else {
  await writeFile(target, wanted);
}
