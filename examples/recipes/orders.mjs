// Places an order, and shows its status until it is delivered.
//
//   orders.mjs USER [ORDER]     ORDER: one that was placed before
import { session } from "./session.mjs";

const [user, before] = process.argv.slice(2);
let order = before && Number(before);
let version = 0; // of the status on the screen

function show(change) {
  if (change.order !== order || change.version <= version) return; // an older one came later
  version = change.version;
  console.log(`order ${order}: ${change.status}`);
  if (change.status === "delivered") stream.close();
}

async function load() {
  order ??= (await stream.call("demo.orders.place")).order;
  show(await stream.call("demo.orders.status", { order }));
}

const stream = session(user, {
  // What changed before the session stood, and whatever a gap hides, is in the status.
  onState: (state) => state === "open" && load().catch(complain),
  onGap: () => load().catch(complain),
  onEvent: ({ event, data }) => event === "order.status" && show(data),
});

function complain({ code, message }) {
  console.error(`${code}: ${message}`);
  if (code === "404") stream.close();
}
