// The snippets of docs/frontend.md, as they stand there.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { root } from "./process.mjs";

export const document = (name) => readFile(join(root, "docs", name), "utf8");

async function* blocks() {
  for (const [, kind, block] of (await document("frontend.md")).matchAll(/^```(\w+)\n([^]*?)^```$/gm)) {
    const [, name] = block.match(/^(?:\/\/|#|<!--) (\S+\.\w+)/) ?? [];
    yield { kind, name, block };
  }
}

/** By the file's name in their first line. */
export async function snippets() {
  const found = {};
  for await (const { name, block } of blocks()) if (name) found[name] = block;
  return found;
}

/** Those in JavaScript that are no file of their own. */
export async function fragments() {
  const found = [];
  for await (const { kind, name, block } of blocks()) if (kind === "js" && !name) found.push(block);
  return found;
}
