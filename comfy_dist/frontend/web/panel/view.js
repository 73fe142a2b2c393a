// The whole panel, from what is known of the cluster.

import { deedButton, h } from "./elements.js";
import { localWorkers } from "./local_workers.js";
import { queue } from "./queue.js";
import { sharing } from "./sharing.js";
import { many } from "./words.js";
import { workerCard } from "./worker_card.js";

export function view(cluster, previews, deeds) {
  return h(
    "div",
    { class: "cd-panel" },
    h("header", {}, h("h2", {}, "Distributed"), h("span", { class: "cd-muted" }, summaryOf(cluster))),
    cluster.trouble && trouble(cluster),
    cluster.workers && [
      queueCluster(cluster, deeds),
      sharing(cluster, deeds),
      workers(cluster, previews, deeds),
      localWorkers(cluster, deeds),
      queue(cluster, deeds),
      settings(cluster, deeds),
    ],
  );
}

/** Stays in sight, wherever the button is that it is about. */
function trouble(cluster) {
  return h(
    "div",
    { class: "cd-trouble", role: "alert", "data-key": "trouble" },
    h("p", { class: "cd-error" }, cluster.trouble),
    h("button", { type: "button", onclick: () => cluster.forgetTrouble() }, "Close"),
  );
}

function summaryOf({ workers, total }) {
  if (!workers) return "Looking …";
  const busy = workers.filter(({ jobs }) => jobs.length > 0).length;
  return `${many(workers.length, "worker")}, ${busy} busy · ${many(total, "prompt")}`;
}

function queueCluster(cluster, deeds) {
  const attributes = {
    type: "button",
    class: "cd-main",
    "data-key": "queue-cluster",
    title: "Run this workflow once on every worker that is chosen, each with a seed of its own",
    disabled: cluster.workers.length === 0,
    onclick: deeds.queueCluster,
  };
  return cluster.config && h("button", attributes, "Queue Cluster");
}

function workers(cluster, previews, deeds) {
  return h(
    "section",
    { "data-key": "workers", "aria-label": "Workers" },
    h("h3", {}, "Workers"),
    cluster.workers.length === 0 &&
      h("p", { class: "cd-muted" }, "No worker is there. One joins when comfyui-worker starts with this broker."),
    cluster.workers.map((worker) => workerCard(cluster, worker, previews, deeds)),
  );
}

function settings(cluster, deeds) {
  const button = (key, label, deed) => deedButton(cluster, key, label, deed);
  return h(
    "details",
    { "data-key": "settings" },
    h("summary", {}, "The whole cluster"),
    h(
      "div",
      { class: "cd-buttons" },
      button("pause-all", "Pause all", (key) => deeds.everywhere(key, "/distributed/pause")),
      button("resume-all", "Resume all", (key) => deeds.everywhere(key, "/distributed/resume")),
      button("free-all", "Free all memory", (key) =>
        deeds.everywhere(key, "/free", { unload_models: true, free_memory: true }),
      ),
      button("interrupt-all", "Interrupt all", (key) => deeds.interruptAll(key)),
    ),
    cluster.config && cluster.local?.managed && autoLaunch(cluster, deeds),
  );
}

function autoLaunch(cluster, deeds) {
  return h(
    "label",
    { class: "cd-choice" },
    h("input", {
      type: "checkbox",
      checked: cluster.config.auto_launch,
      onchange: ({ target }) => deeds.configure({ auto_launch: target.checked }),
    }),
    "Start the workers of this machine with ComfyUI",
  );
}
