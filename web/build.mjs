// Builds everything that a browser loads into internal/web/static/dist, which is committed: the Go side needs no Node.
//
// The same lock file and the same Node give the same bytes, so a rebuild that differs means that somebody forgot to run it.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, "../internal/web/static/dist");
const require = createRequire(import.meta.url);

/** What the browser gets the code or the shapes of; their licences travel with the built files. */
const bundled = ["htmx.org", "@fontsource-variable/instrument-sans", "@fontsource-variable/red-hat-mono"];

/** Logical font name to the file in its package. Latin and Latin Extended only: host names and user ids need no more. */
const fonts = {
  "sans.woff2": "@fontsource-variable/instrument-sans/files/instrument-sans-latin-wght-normal.woff2",
  "sans-ext.woff2": "@fontsource-variable/instrument-sans/files/instrument-sans-latin-ext-wght-normal.woff2",
  "mono.woff2": "@fontsource-variable/red-hat-mono/files/red-hat-mono-latin-wght-normal.woff2",
  "mono-ext.woff2": "@fontsource-variable/red-hat-mono/files/red-hat-mono-latin-ext-wght-normal.woff2",
};

/** Logical name to the name that holds the content's hash. */
const manifest = {};

function emit(name, content) {
  const body = Buffer.from(content);
  const hash = createHash("sha256").update(body).digest("hex").slice(0, 12);
  const dot = name.lastIndexOf(".");
  const hashed = `${name.slice(0, dot)}-${hash}${name.slice(dot)}`;
  manifest[name] = hashed;
  writeFileSync(join(dist, hashed), body);
  if (name.endsWith(".woff2")) return; // compressed inside already
  writeFileSync(
    join(dist, `${hashed}.br`),
    brotliCompressSync(body, {
      params: {
        [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
        [constants.BROTLI_PARAM_QUALITY]: 11,
        [constants.BROTLI_PARAM_LGWIN]: 22,
        [constants.BROTLI_PARAM_SIZE_HINT]: body.length,
      },
    }),
  );
  const gz = gzipSync(body, { level: 9, memLevel: 9 });
  gz[9] = 255; // the header names the operating system otherwise
  writeFileSync(join(dist, `${hashed}.gz`), gz);
}

/** Bundles and minifies one entry point. Browsers from the middle of 2024 on are what light-dark() asks for. */
async function bundle(entry) {
  const result = await build({
    entryPoints: [join(root, entry)],
    bundle: true,
    write: false,
    minify: true,
    format: "iife",
    target: ["chrome123", "firefox120", "safari17.5"],
    external: ["asset:*"],
    legalComments: "none",
    charset: "utf8",
  });
  return result.outputFiles[0].text;
}

/** Fonts lie beside the style sheet, so their bare file names work below any base path. */
function withAssets(css) {
  return css.replaceAll(/asset:([\w.-]+)/g, (_, asset) => {
    if (!manifest[asset]) throw new Error(`the style sheet names an unknown asset: ${asset}`);
    return manifest[asset];
  });
}

function licences() {
  const parts = bundled.map((name) => {
    const { version, license } = require(`${name}/package.json`);
    const text = readFileSync(join(root, "node_modules", name, "LICENSE"), "utf8").trim();
    return `${name} ${version} (${license})\n\n${text}\n`;
  });
  return parts.join(`\n${"-".repeat(78)}\n\n`);
}

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
for (const [name, file] of Object.entries(fonts)) emit(name, readFileSync(join(root, "node_modules", file)));
emit("app.css", withAssets(await bundle("src/css/app.css")));
emit("alone.css", await bundle("src/css/alone.css"));
emit("app.js", await bundle("src/ts/app.ts"));
emit("theme.js", await bundle("src/ts/theme.ts"));
emit("favicon.svg", readFileSync(join(root, "src/favicon.svg")));
const sorted = Object.fromEntries(Object.entries(manifest).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(join(dist, "manifest.json"), `${JSON.stringify(sorted, null, 2)}\n`);
writeFileSync(join(dist, "LICENSES.txt"), licences());
