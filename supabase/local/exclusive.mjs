/**
 * Fair mutual exclusion.
 *
 * PGlite is one PostgreSQL session. An HTTP request that has begun a
 * transaction, and a PostgreSQL client in the middle of one, must each have
 * the session to themselves until they are done.
 */
export class Exclusive {
  #held = false;
  #waiting = [];

  /** Resolves with a function that releases; rejects after `timeout` ms (0: never). */
  async acquire(timeout = 0) {
    if (this.#held) {
      await new Promise((resolve, reject) => {
        const entry = { resolve, timer: undefined };
        if (timeout > 0) {
          entry.timer = setTimeout(() => {
            this.#waiting.splice(this.#waiting.indexOf(entry), 1);
            reject(new Error("the database session is held by another client"));
          }, timeout);
        }
        this.#waiting.push(entry);
      });
    }
    this.#held = true;
    let released = false;
    return () => {
      if (released) return;
      released = true;
      const next = this.#waiting.shift();
      if (next === undefined) {
        this.#held = false;
        return;
      }
      clearTimeout(next.timer);
      next.resolve();
    };
  }
}
