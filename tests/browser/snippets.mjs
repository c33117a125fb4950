// The plain means of docs/frontend.md as one script, which defines their functions.

import { readFile } from "node:fs/promises";

export async function plainMeans() {
  const document = await readFile(new URL("../../docs/frontend.md", import.meta.url), "utf8");
  const modules = ["come-back", "plain-events", "plain-socket"].map((name) => {
    const [text] = document.match(new RegExp(`(?<=\`\`\`js\n)// ${name}\\.js[^]*?(?=\`\`\`)`)) ?? [];
    if (!text) throw new Error(`docs/frontend.md shows no ${name}.js`);
    return text.replace(/^import .*$/gm, "").replace(/^export /gm, "");
  });
  return modules.join("");
}
