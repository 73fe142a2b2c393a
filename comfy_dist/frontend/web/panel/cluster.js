// What the panel knows of the cluster: asked for again and again while the panel is open and the page can be seen.

import { ask, askIfThere } from "./asking.js";

/** Milliseconds between two looks, while something runs and while nothing does. */
const BUSY = 1000;
const QUIET = 2000;
/** And so many times as long as showing it takes: with very many workers the page has other things to do too. */
const AS_LONG = 10;
/** Prompts of the queue that are listed. */
const LISTED = 50;
/** States of local workers that soon are others. */
const CHANGING = ["starting", "restarting", "stopping"];
const QUEUE = `/jobs?status=in_progress,pending&sort_by=turn&sort_order=asc&limit=${LISTED}`;

export class Cluster {
  /** Null until it is known; `config` and `local` stay so where this user or this frontend has none. */
  workers = null;
  jobs = [];
  /** Prompts that run or wait, those that are not listed too. */
  total = 0;
  config = null;
  local = null;
  /** What went wrong last, for who looks at the panel; "" for nothing. */
  trouble = "";
  /** What was asked and is not answered yet: keys of buttons. */
  asked = new Set();

  #changed;
  #open = false;
  #timer = 0;
  #looking = null;
  #lost = false;
  /** Changes of the configuration, how many of them had an answer, and the end of the last one. */
  #chosen = 0;
  #answered = 0;
  #sent = Promise.resolve();
  /** {id of a worker: that of the entry that it was started for}. */
  #startedFor = new Map();
  /** Whoever may not see local workers is not to be refused every second. */
  #seesLocal = true;

  /** `changed` is called whenever there is something new to show. */
  constructor(changed) {
    this.#changed = changed;
    document.addEventListener("visibilitychange", () => this.look());
  }

  open() {
    this.#open = true;
    this.#seesLocal = true;
    this.look();
  }

  close() {
    this.#open = false;
    clearTimeout(this.#timer);
  }

  /** Look now; the next look comes by itself. Who asks during one waits for one that begins later. */
  async look() {
    clearTimeout(this.#timer);
    while (this.#looking) await this.#looking;
    if (!this.#open || document.hidden) return;
    this.#looking = this.#look();
    await this.#looking;
    this.#looking = null;
    const began = performance.now();
    this.#changed();
    const pause = Math.max(this.#active ? BUSY : QUIET, AS_LONG * (performance.now() - began));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.look(), pause);
  }

  get #active() {
    return this.total > 0 || (this.local?.workers ?? []).some(({ state }) => CHANGING.includes(state));
  }

  async #look() {
    const answered = this.#answered;
    try {
      const [{ workers }, queue, config, local] = await Promise.all([
        ask("GET", "/distributed/workers"),
        ask("GET", QUEUE),
        askIfThere("/distributed/config"),
        this.#seesLocal ? askIfThere("/distributed/local") : null,
      ]);
      this.workers = this.#withoutEnded(workers, local?.workers ?? []).sort(
        (a, b) => a.name.localeCompare(b.name) || a.id.localeCompare(b.id),
      );
      this.jobs = queue.jobs;
      this.total = queue.pagination.total;
      // What is looked up beside a change may be older than it.
      if (answered === this.#chosen) this.config = config;
      this.local = local;
      this.#seesLocal = local !== null;
      if (this.#lost) this.trouble = "";
      this.#lost = false;
    } catch (error) {
      this.trouble = error.message;
      this.#lost = true;
    }
  }

  /** A killed worker stays announced for a while; of one of this machine it is known that its process has ended. */
  #withoutEnded(workers, entries) {
    const now = new Map(entries.map(({ id, worker }) => [id, worker]));
    for (const [id, worker] of now) if (worker) this.#startedFor.set(worker, id);
    return workers.filter(({ id }) => [undefined, id].includes(now.get(this.#startedFor.get(id))));
  }

  /** The answer to a deed, null where it is refused. Until what it changed is seen the key is in `asked`. */
  async deed(key, method, path, body) {
    if (this.asked.has(key)) return null;
    this.asked.add(key);
    this.trouble = "";
    this.#changed();
    try {
      return await ask(method, path, body);
    } catch (error) {
      this.trouble = error.message;
      return null;
    } finally {
      await this.look();
      this.asked.delete(key);
      this.#changed();
    }
  }

  /** Shown at once as it was chosen, and sent in turn: the last choice is the one that stays. */
  configure(body) {
    this.config = { ...this.config, ...body };
    this.#chosen += 1;
    this.trouble = "";
    this.#changed();
    this.#sent = this.#sent.then(async () => {
      try {
        await ask("POST", "/distributed/config", body);
      } catch (error) {
        this.trouble = error.message;
      }
      this.#answered += 1;
      this.look();
    });
  }

  /** It has been read. */
  forgetTrouble() {
    this.trouble = "";
    this.#changed();
  }

  /** The entry of a worker that this machine starts itself; null for any other. */
  entryOf(worker) {
    return this.local?.workers?.find((entry) => entry.worker === worker.id) ?? null;
  }

  /** Whether prompts may be spread to workers of this name. */
  isChosen(name) {
    return this.config?.workers?.includes(name) ?? true;
  }

  /** The names that are chosen when this one is, or no longer is; null is everyone, who comes later too. */
  chosenWith(name, chosen) {
    const names = new Set(this.workers.map((worker) => worker.name));
    const now = new Set(this.config.workers ?? names);
    if (chosen) now.add(name);
    else now.delete(name);
    return [...names].every((each) => now.has(each)) ? null : [...now];
  }
}
