// A chat room in a terminal: shows what is said, and says what is typed.
//
//   chat.mjs USER [ROOM]
import { lines, session } from "./session.mjs";

const [user, room = "demo-room"] = process.argv.slice(2);
let shown = 0; // the number of the last message on the screen

function show({ n, from, text }) {
  if (n <= shown) return; // history has brought it
  shown = n;
  console.log(`${from}: ${text}`);
}

async function load() {
  for (const message of await stream.call("demo.chat.history", { room })) show(message);
}

const stream = session(user, {
  topics: [room],
  // First follow, then load: nothing falls between. An event that comes before the history waits.
  onState: (state) => state === "open" && (loaded = load().catch(complain)),
  onEvent: async ({ event, topic, data }) => {
    await loaded;
    if (topic === room && event === "chat.message") show(data);
  },
  onGap: () => (loaded = load().catch(complain)),
});
let loaded;

function complain({ code, message }) {
  console.error(`${code}: ${message}`);
}

for await (const text of lines()) {
  await stream.call("demo.chat.say", { room, text }).catch(complain);
}
stream.close();
