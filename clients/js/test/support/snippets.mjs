// The snippets of docs/frontend.md, as they stand there.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { root } from "./process.mjs";

export const document = (name) => readFile(join(root, "docs", name), "utf8");

/** By the file's name in their first line. */
export async function snippets() {
  const found = {};
  for (const [, block] of (await document("frontend.md")).matchAll(/^```\w+\n([^]*?)^```$/gm)) {
    const [, name] = block.match(/^(?:\/\/|#|<!--) (\S+\.\w+)/) ?? [];
    if (name) found[name] = block;
  }
  return found;
}
