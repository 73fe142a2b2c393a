// Who does a share where a prompt's work is spread: the three ways, in words.

import { h } from "./elements.js";
import { list } from "./words.js";

const WAYS = [
  ["participating", "It does a share itself", "It takes part like every other worker."],
  [
    "orchestrator-only",
    "It only orchestrates",
    "It hands out the shares and puts the results together. Where no other worker is there, the prompt fails.",
  ],
  [
    "fallback",
    "It orchestrates, and steps in",
    "It hands out the shares and puts the results together. Where no other worker is there, it does everything.",
  ],
];

export function sharing(cluster, deeds) {
  const { config } = cluster;
  if (!config) return null;
  return h(
    "fieldset",
    { class: "cd-ways", "data-key": "ways" },
    h("legend", {}, "The worker that has the prompt"),
    WAYS.map(([way, title, words]) =>
      h(
        "label",
        { title: words },
        h("input", {
          type: "radio",
          name: "comfy_dist-participation",
          value: way,
          checked: config.participation === way,
          onchange: () => deeds.configure({ participation: way }),
        }),
        title,
      ),
    ),
    h("p", { class: "cd-muted" }, WAYS.find(([way]) => way === config.participation)?.[2]),
    h("p", { class: "cd-muted" }, chosenOf(cluster)),
    config.workers &&
      h("button", { type: "button", onclick: () => deeds.configure({ workers: null }) }, "Share with everyone"),
  );
}

function chosenOf({ config, workers }) {
  if (!config.workers) return "Prompts are shared with every worker, those too that come later.";
  const there = new Set(workers.map(({ name }) => name));
  const away = config.workers.filter((name) => !there.has(name));
  const names = config.workers.length ? `${list(config.workers)} alone` : "nobody";
  const chosen = `Prompts are shared with ${names}.`;
  return away.length ? `${chosen} Not there now: ${list(away)}.` : chosen;
}
