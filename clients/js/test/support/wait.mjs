// Waiting for what happens, with a bound on patience.

/** ms; a client waits for up to 30 s between two attempts. */
export const PATIENCE = 90_000;

/** Waits until `look` returns something, and returns it. It looks again after `every` ms. */
export async function until(what, look, every = 10) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${PATIENCE} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

/** A list that can be waited for: `await list.next()` takes what comes next. */
export class Queue {
  #items = [];

  push(item) {
    this.#items.push(item);
  }

  async next(what = "the next of a queue") {
    await until(what, () => this.#items.length > 0);
    return this.#items.shift();
  }

  /** All that is here, and not taken yet. */
  rest() {
    return this.#items.splice(0);
  }
}
