// @ts-check
/** Builds the dashboard into dist/: one page, hashed assets, nothing from elsewhere. */

import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const here = import.meta.dirname;
const dist = `${here}/dist`;

/** What a phone on a slow line has to fetch before it shows anything; the build fails above it. */
const INITIAL_JS_LIMIT_BYTES = 60 * 1024;

/** Below it, compressing saves no packet. */
const COMPRESSED_FROM_BYTES = 1024;

/**
 * @param {esbuild.BuildOptions} options
 * @returns {Promise<string[]>} names of the files it made
 */
async function bundle(options) {
  const result = await esbuild.build({
    bundle: true,
    minify: true,
    sourcemap: true,
    metafile: true,
    // The floor is `light-dark()` in CSS: Chrome 123, Firefox 120, Safari 17.5.
    target: ["chrome123", "firefox120", "safari17.5"],
    outdir: `${dist}/assets`,
    entryNames: "[name]-[hash]",
    logLevel: "warning",
    ...options,
  });
  return Object.keys(result.metafile?.outputs ?? {}).map((path) => basename(path));
}

await rm(dist, { recursive: true, force: true });
await mkdir(`${dist}/assets`, { recursive: true });

const outputs = [
  ...(await bundle({
    entryPoints: { app: `${here}/src/main.tsx` },
    format: "esm",
    jsx: "automatic",
    jsxImportSource: "preact",
  })),
  ...(await bundle({ entryPoints: { theme: `${here}/src/theme-boot.ts` }, format: "iife" })),
];

let page = await readFile(`${here}/index.html`, "utf8");
let initialJs = 0;
for (const slot of ["theme.js", "app.css", "app.js"]) {
  const [stem, ending] = slot.split(".");
  const name = outputs.find((file) => file.startsWith(`${stem}-`) && file.endsWith(`.${ending}`));
  if (name === undefined) throw new Error(`The build made no ${slot}.`);
  page = page.replace(`{{${slot}}}`, `/assets/${name}`);
  const size = gzipSync(await readFile(`${dist}/assets/${name}`)).length;
  if (ending === "js") initialJs += size;
  console.log(`${name.padEnd(24)} ${(size / 1024).toFixed(1).padStart(6)} kB gzipped`);
}
await writeFile(`${dist}/index.html`, page);
for (const name of outputs) {
  const whole = await readFile(`${dist}/assets/${name}`);
  if (whole.length < COMPRESSED_FROM_BYTES) continue;
  await writeFile(`${dist}/assets/${name}.gz`, gzipSync(whole, { level: 9 }));
  const params = { [constants.BROTLI_PARAM_SIZE_HINT]: whole.length };
  await writeFile(`${dist}/assets/${name}.br`, brotliCompressSync(whole, { params }));
}
await cp(`${here}/public`, dist, { recursive: true });

if (initialJs > INITIAL_JS_LIMIT_BYTES) {
  throw new Error(
    `Initial JavaScript is ${initialJs} bytes gzipped; the limit is ${INITIAL_JS_LIMIT_BYTES}.`,
  );
}
