// Bundles usher-client for the demo page, which the gateway serves: `npm run demo` writes the file
// that is committed, so that building the gateway needs no Node.

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

export const COMMITTED = fileURLToPath(new URL("../../../src/http/demo/client.js", import.meta.url));

/** What the file should hold. */
export async function bundle() {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("../src/index.ts", import.meta.url))],
    banner: { js: '// usher-client. Built from clients/js: run "npm run demo" there, and do not edit this.' },
    bundle: true,
    format: "iife",
    globalName: "usherClient",
    target: "es2022",
    write: false,
  });
  return outputFiles[0].text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(COMMITTED, await bundle());
