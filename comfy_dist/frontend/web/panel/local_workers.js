// The workers that this ComfyUI starts on its own machine: those that do not run yet, and new ones.

import { deedButton, h } from "./elements.js";
import { many } from "./words.js";

const STATES = {
  stopped: "is stopped",
  starting: "is starting",
  running: "runs, and has not joined yet",
  restarting: "ended, and is started again",
  stopping: "finishes what it has, and ends",
  failed: "could not be started",
};

/** Cards of entries whose worker is not among the live ones, and all settings; null where nothing is managed. */
export function localWorkers(cluster, deeds) {
  const { local } = cluster;
  if (!local?.managed) return null;
  const devices = [...local.devices, { id: "cpu", name: "CPU" }];
  const live = new Set(cluster.workers.map(({ id }) => id));
  return h(
    "section",
    { "data-key": "local", "aria-label": "Workers of this machine" },
    local.error && h("p", { class: "cd-error", "data-key": "error" }, local.error),
    local.workers.filter(({ worker }) => !live.has(worker)).map((entry) => card(cluster, entry, deeds)),
    h(
      "details",
      { "data-key": "manage" },
      h("summary", {}, "Workers of this machine"),
      local.workers.map((entry) => settings(cluster, entry, devices, deeds)),
      adding(cluster, devices, deeds),
    ),
  );
}

function card(cluster, entry, deeds) {
  const button = (name, label, deed) => deedButton(cluster, `${name} ${entry.id}`, label, deed);
  const stop = (key) => deeds.local(key, entry, { stop: true });
  return h(
    "article",
    { class: "cd-card", "data-key": entry.id, "data-state": entry.state, "aria-label": entry.name },
    h(
      "header",
      {},
      h("h4", {}, entry.name),
      h("span", { class: "cd-muted" }, STATES[entry.state] ?? entry.state),
    ),
    h("p", { class: "cd-muted" }, aboutOf(entry)),
    entry.error && h("p", { class: "cd-error", "data-key": "error" }, entry.error),
    h(
      "div",
      { class: "cd-buttons", "data-key": "buttons" },
      ["stopped", "failed"].includes(entry.state) &&
        button("start", "Start", (key) => deeds.local(key, entry, { start: true })),
      ["starting", "running", "restarting"].includes(entry.state) && button("stop", "Stop", stop),
      entry.state === "stopping" && button("stop-now", "Stop now", stop),
      button("log", "Log", () => deeds.localLog(entry)),
    ),
  );
}

function aboutOf({ device, restarts }) {
  const place = device === "cpu" ? "on the CPU" : `on device ${device}`;
  return restarts ? `${place} · started again ${many(restarts, "time")}` : place;
}

/** Its name, device, and whether it starts with ComfyUI; arguments and environment are for the file alone. */
function settings(cluster, entry, devices, deeds) {
  const key = `set ${entry.id}`;
  return h(
    "form",
    {
      class: "cd-form",
      "data-key": `settings ${entry.id}`,
      "aria-label": `Settings of ${entry.name}`,
      onsubmit: (event) => {
        event.preventDefault();
        const said = saidIn(event.target);
        // What is said starts or stops it too.
        const changed = Object.entries(said).filter(([what, value]) => value !== entry[what]);
        if (changed.length) deeds.local(key, entry, Object.fromEntries(changed));
      },
    },
    fields(entry, devices),
    h(
      "div",
      { class: "cd-buttons" },
      h("button", { type: "submit", "aria-disabled": cluster.asked.has(key) && "true" }, "Save"),
      deedButton(cluster, `remove ${entry.id}`, "Remove", (key) => deeds.remove(key, entry)),
    ),
  );
}

function adding(cluster, devices, deeds) {
  const key = "add";
  return h(
    "form",
    {
      class: "cd-form",
      "data-key": "add",
      "aria-label": "A further worker",
      onsubmit: async (event) => {
        event.preventDefault();
        const form = event.target;
        if (await deeds.add(key, saidIn(form))) form.reset();
      },
    },
    h("h4", {}, "A further worker"),
    fields({ name: "", device: "", enabled: true }, devices),
    h(
      "div",
      { class: "cd-buttons" },
      h("button", { type: "submit", "aria-disabled": cluster.asked.has(key) && "true" }, "Add"),
    ),
  );
}

function saidIn(form) {
  const { name, device, enabled } = form.elements;
  return { name: name.value, device: device.value, enabled: enabled.checked };
}

function fields({ name, device, enabled }, devices) {
  // A device may be gone since.
  const gone = device && !devices.some(({ id }) => id === device);
  const known = gone ? [{ id: device, name: device }, ...devices] : devices;
  return [
    h("label", {}, "Name", h("input", { name: "name", required: true, maxlength: 40, value: name })),
    h(
      "label",
      {},
      "Device",
      h(
        "select",
        { name: "device" },
        known.map(({ id, name: label }) => h("option", { value: id, selected: id === device }, label)),
      ),
    ),
    h(
      "label",
      { class: "cd-choice" },
      h("input", { type: "checkbox", name: "enabled", checked: enabled }),
      "Start it with ComfyUI",
    ),
  ];
}
