// A card for each worker: what it is, what it does, and what can be done with it.

import { deedButton, h } from "./elements.js";
import { bytes, duration, many, rate, short } from "./words.js";

const STATES = {
  starting: "is starting",
  paused: "is paused",
  idle: "is idle",
  busy: "is busy",
  draining: "leaves when its prompts have ended",
};

/** `deeds` is what the buttons do, by their names. */
export function workerCard(cluster, worker, previews, deeds) {
  const entry = cluster.entryOf(worker);
  const state = worker.paused && worker.state !== "draining" ? "paused" : worker.state;
  const finishes = state === "paused" && worker.jobs.length > 0 ? ", and finishes what it has" : "";
  return h(
    "article",
    { class: "cd-card", "data-key": worker.id, "data-state": state, "aria-label": worker.name },
    h(
      "header",
      {},
      h("h4", { title: `${worker.id} on ${worker.host}` }, worker.name),
      h("span", { class: "cd-muted" }, `${STATES[state] ?? state}${finishes}`),
    ),
    h("p", { class: "cd-muted" }, aboutOf(worker, entry)),
    entry?.error && h("p", { class: "cd-error", "data-key": "error" }, entry.error),
    worker.devices.map(device),
    worker.jobs.map((job) => current(job, previews)),
    h("p", { class: "cd-muted" }, countsOf(worker)),
    choice(cluster, worker, deeds),
    buttons(cluster, worker, entry, deeds),
  );
}

function aboutOf(worker, entry) {
  const again = entry?.restarts ? `, again ${many(entry.restarts, "time")}` : "";
  const place = entry ? `started by this ComfyUI${again}` : `on ${worker.host}`;
  return [place, `engine ${worker.engine} ${worker.engine_version}`.trim(), ...worker.tags].join(" · ");
}

/** One device; a bar for what is taken of its memory. */
function device({ name, vram_total: total, vram_free: free }) {
  const taken = Math.max(0, total - free);
  return h(
    "div",
    { class: "cd-device" },
    h("span", { class: "cd-name", title: name }, name),
    total > 0 && h("span", { class: "cd-muted" }, `${bytes(taken)} of ${bytes(total)}`),
    total > 0 && bar(taken / total, `Memory of ${name}`, taken > 0.9 * total ? "full" : "memory"),
  );
}

/** What an engine executes; `previews` has pictures of prompts that this page queued. */
function current(job, previews) {
  const whole = job.root ?? job.id;
  const done = job.max > 0 ? job.value / job.max : 0;
  const part = job.parent ? `helps with ${short(whole)}` : short(whole);
  const words = [
    job.world > 1 ? `${part} as ${job.rank + 1} of ${job.world}` : part,
    job.node && `node ${job.node}`,
    job.attempt > 1 && `try ${job.attempt}`,
    `for ${duration(Date.now() - job.started_at)}`,
  ];
  const preview = previews.get(whole);
  return h(
    "div",
    { class: "cd-job", "data-key": job.id },
    h("span", { class: "cd-name", title: job.id }, words.filter(Boolean).join(" · ")),
    h("span", { class: "cd-muted" }, `${Math.round(100 * Math.min(1, done))} %`),
    bar(done, `Progress of ${part}`, "progress"),
    preview && h("img", { src: preview, alt: `Preview of ${part}` }),
  );
}

function bar(part, label, kind) {
  const percent = Math.round(100 * Math.min(1, Math.max(0, part)));
  return h(
    "div",
    { class: `cd-bar cd-${kind}`, role: "progressbar", "aria-label": label, "aria-valuenow": percent },
    h("div", { style: `width: ${percent}%` }),
  );
}

function countsOf(worker) {
  const up = Date.now() - worker.started_at;
  const counts = [`${worker.finished} done`, worker.failed > 0 && `${worker.failed} failed`];
  if (worker.per_hour > 0) counts.push(rate(worker.per_hour));
  return [...counts, `up for ${duration(up)}`].filter(Boolean).join(" · ");
}

function choice(cluster, worker, deeds) {
  if (!cluster.config) return null;
  return h(
    "label",
    { class: "cd-choice", "data-key": "choice" },
    h("input", {
      type: "checkbox",
      checked: cluster.isChosen(worker.name),
      onchange: ({ target }) => deeds.choose(worker.name, target.checked),
    }),
    "Share prompts with it",
  );
}

function buttons(cluster, worker, entry, deeds) {
  const button = (name, label, deed, title) =>
    deedButton(cluster, `${name} ${worker.id}`, label, deed, { title });
  const ask = (body) => (key) => deeds.ask(key, worker, body);
  const stop = (key) => deeds.local(key, entry, { stop: true });
  const leaves = worker.state === "draining";
  return h(
    "div",
    { class: "cd-buttons", "data-key": "buttons" },
    worker.paused
      ? button("enabled", "Resume", ask({ enabled: true }), "Let it take prompts again")
      : button("enabled", "Pause", ask({ enabled: false }), "Let it finish what it has, and take no more"),
    worker.jobs.length > 0 &&
      button("interrupt", "Interrupt", ask({ interrupt: true }), "Cancel what it executes"),
    button("free", "Free memory", ask({ free: true }), "Unload its models"),
    button("restart", "Restart", (key) => deeds.restart(key, worker, entry), "Start its engine anew"),
    entry &&
      (leaves
        ? button("stop-now", "Stop now", stop, "End its process, whatever it executes")
        : button("stop", "Stop", stop, "Let it finish what it has, and end its process")),
    !entry &&
      !leaves &&
      button("drain", "Drain", (key) => deeds.drain(key, worker), "Let it finish what it has, and end"),
    button("log", "Log", () => deeds.workerLog(worker), "What it said last"),
  );
}
