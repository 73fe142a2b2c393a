// The queue of the whole cluster: which prompts run where, and which wait.

import { deedButton, h } from "./elements.js";
import { duration, list, many, short } from "./words.js";

export function queue(cluster, deeds) {
  const at = placesOf(cluster.workers);
  const running = cluster.jobs.filter(({ status }) => status === "in_progress");
  const waiting = cluster.jobs.filter(({ status }) => status === "pending");
  const more = cluster.total - cluster.jobs.length;
  return h(
    "section",
    { "data-key": "queue", "aria-label": "Queue" },
    h("h3", {}, "Queue"),
    cluster.total === 0 && h("p", { class: "cd-muted" }, "Nothing runs, and nothing waits."),
    h(
      "ol",
      { class: "cd-queue" },
      running.map((job) => row(cluster, job, runningWords(job, at.get(job.id) ?? []), deeds)),
      waiting.map((job, place) => row(cluster, job, waitingWords(job, place), deeds)),
    ),
    more > 0 && h("p", { class: "cd-muted" }, `and ${many(more, "further prompt")}`),
  );
}

function row(cluster, job, words, deeds) {
  const cancel = (key) => deeds.cancel(key, job);
  return h(
    "li",
    { "data-key": job.id, "data-state": job.status },
    h("span", { class: "cd-name", title: job.id }, short(job.id)),
    h("span", { class: "cd-muted" }, job.user ? `${words} · ${job.user}` : words),
    deedButton(cluster, `cancel ${job.id}`, "Cancel", cancel, { "aria-label": `Cancel ${short(job.id)}` }),
  );
}

function runningWords(job, places) {
  const own = places.filter(({ part }) => !part).map(({ worker }) => worker);
  const helping = [...new Set(places.filter(({ part }) => part).map(({ worker }) => worker))];
  const words = own.length ? `runs on ${list(own)}` : "runs";
  const helped = helping.length ? `, helped by ${list(helping)}` : "";
  return `${words}${helped} · ${duration(Date.now() - (job.execution_start_time ?? job.create_time))}`;
}

function waitingWords(job, place) {
  const rank = place === 0 ? "the next" : `place ${place + 1}`;
  return `waits, ${rank} · ${duration(Date.now() - job.create_time)}`;
}

/** {client's prompt: [{worker's name, whether only a part of it runs there}]}. */
function placesOf(workers) {
  const at = new Map();
  for (const worker of workers) {
    for (const job of worker.jobs) {
      const whole = job.root ?? job.id;
      at.set(whole, [...(at.get(whole) ?? []), { worker: worker.name, part: job.parent != null }]);
    }
  }
  return at;
}
