// Asks a language model, and shows its answer as it comes. The line "stop" stops it.
//
//   answer.mjs USER PROMPT [FILE]
//
// With FILE the answer and the position in the stream are kept there, as a page would keep both in
// sessionStorage: started again in the middle, it goes on where it was.
import { randomUUID } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { lines, session } from "./session.mjs";

const [user, prompt, file] = process.argv.slice(2);
const page = file && existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : { n: 0, text: "" };
process.stdout.write(page.text);

// The client stores its position after each event, and with it what the page shows of it.
const store = {
  getItem: () => page.position,
  setItem(key, position) {
    page.position = position;
    if (!file) return;
    writeFileSync(`${file}.new`, JSON.stringify(page));
    renameSync(`${file}.new`, file);
  },
};

function add(n, text) {
  page.n = n;
  page.text += text;
  process.stdout.write(text);
}

function end(why) {
  console.log(`\n(${why})`);
  stream.close();
  process.exit();
}

async function begin() {
  page.answer ??= randomUUID();
  if (page.n === 0) await stream.call("demo.answer.ask", { answer: page.answer, prompt });
}

/** Parts are missing: all of the answer so far. */
async function load() {
  const { n, text, over } = await stream.call("demo.answer.text", { answer: page.answer });
  if (n > page.n) add(n, text.slice(page.text.length));
  if (over) end("done");
}

const stream = session(user, {
  store,
  // The same id again is the same answer, so a lost call may be repeated.
  onState: (state) => state === "open" && begin().catch(complain),
  onEvent({ event, data }) {
    if (data?.answer !== page.answer) return;
    if (event === "answer.part" && data.n === page.n + 1) add(data.n, data.text);
    else if (event === "answer.part" && data.n > page.n) load().catch(complain);
    if (event === "answer.done") end(data.stopped ? "stopped" : "done");
  },
  onGap: () => page.answer && load().catch(complain),
});

function complain({ code, message }) {
  console.error(`${code}: ${message}`);
}

for await (const line of lines()) {
  if (line === "stop") await stream.call("demo.answer.stop", { answer: page.answer }).catch(complain);
}
