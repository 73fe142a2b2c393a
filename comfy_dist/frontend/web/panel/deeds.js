// What the panel's buttons do. Each takes the key of its button, which is out of use until it is done.

import { app } from "../../../scripts/app.js";
import { showLog } from "./log_view.js";

function sure(title, message) {
  return app.extensionManager.dialog.confirm({ title, message });
}

/** By the names under which the panel's parts know them. */
export function deedsOf(cluster) {
  const workerPath = (worker) => `/distributed/workers/${encodeURIComponent(worker.id)}`;
  const entryPath = (entry) => `/distributed/local/${encodeURIComponent(entry.id)}`;

  const ask = (key, worker, body) => cluster.deed(key, "POST", workerPath(worker), body);
  const local = (key, entry, body) => cluster.deed(key, "POST", entryPath(entry), body);
  const everywhere = (key, path, body) => cluster.deed(key, "POST", path, body);

  return {
    ask,
    local,
    everywhere,
    configure: (body) => cluster.configure(body),
    choose: (name, chosen) => cluster.configure({ workers: cluster.chosenWith(name, chosen) }),
    cancel: (key, job) => cluster.deed(key, "POST", `/jobs/${encodeURIComponent(job.id)}/cancel`),
    add: (key, body) => cluster.deed(key, "POST", "/distributed/workers", body),
    workerLog: (worker) => showLog(worker.name, `${workerPath(worker)}/log`),
    localLog: (entry) => showLog(entry.name, `${entryPath(entry)}/log`),

    /** A local worker's process, another's engine. */
    async restart(key, worker, entry) {
      const lost = "What it executes now is begun anew.";
      if (worker.jobs.length && !(await sure(`Restart ${worker.name}?`, lost))) return;
      await (entry ? local(key, entry, { restart: true }) : ask(key, worker, { restart_engine: true }));
    },

    async drain(key, worker) {
      const after = "It finishes what it has, and leaves; only on its own machine it can be started again.";
      if (await sure(`Drain ${worker.name}?`, after)) await ask(key, worker, { drain: true });
    },

    async remove(key, entry) {
      if (!(await sure(`Remove ${entry.name}?`, "It is stopped, and its settings are forgotten."))) return;
      await cluster.deed(key, "DELETE", `/distributed/workers/${encodeURIComponent(entry.id)}`);
    },

    async interruptAll(key) {
      if (!(await sure("Interrupt everything?", "Every prompt that runs is cancelled."))) return;
      await everywhere(key, "/interrupt");
    },
  };
}
