// Shows who is typing in a room. Each line of input stands for a key that is pressed.
//
//   whos_typing.mjs USER [ROOM]
import { lines, session } from "./session.mjs";

const AGAIN = 2000; // ms: so often is the room told, however fast one types
const GONE = 3000; // ms without news: no longer typing

const [user, room = "demo-room"] = process.argv.slice(2);
const typing = new Map(); // by user, the timer that takes the name away

const stream = session(user, {
  topics: [room],
  onState: (state) => console.log(state),
  onEvent({ event, topic, data }) {
    if (topic !== room || event !== "typing" || data.from === user) return;
    const { from } = data;
    if (!typing.has(from)) console.log(`${from} is typing…`);
    clearTimeout(typing.get(from));
    const gone = () => {
      typing.delete(from);
      console.log(`${from} has stopped`);
    };
    typing.set(from, setTimeout(gone, GONE));
  },
});

let next = 0;
for await (const key of lines()) {
  if (performance.now() < next) continue;
  next = performance.now() + AGAIN;
  // Nobody misses one that is lost.
  stream.call("demo.typing", { room }).catch(() => {});
}
stream.close();
