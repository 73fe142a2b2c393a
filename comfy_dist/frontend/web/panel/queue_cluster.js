// Queue Cluster: this workflow once on every worker that is chosen, each with a seed of its own.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { list, many } from "./words.js";

/** The page hands the number of a prompt on to what sends it; this one, of no other's identity, is zero too. */
const ON_EACH = new Number(0);

/** Let the page send prompts of this number to each worker. Once, at its start. */
export function addQueueCluster() {
  const queuePrompt = api.queuePrompt;
  api.queuePrompt = function (number, ...rest) {
    // The page's own request, and its own way to show what is refused.
    return queuePrompt.call(number === ON_EACH ? sender() : this, number === ON_EACH ? 0 : number, ...rest);
  };
}

export async function queueCluster() {
  await app.queuePrompt(ON_EACH, 1);
}

/** The API, but what is sent to /prompt goes to each worker. */
function sender() {
  async function fetchApi(route, options) {
    if (route !== "/prompt") return api.fetchApi(route, options);
    const body = JSON.stringify({ ...JSON.parse(options.body), each: true });
    const answer = await api.fetchApi("/distributed/queue", { ...options, body });
    if (!answer.ok) return answer;
    const { prompts } = await answer.json();
    app.extensionManager.toast.add({
      severity: "success",
      summary: `Queued on ${many(prompts.length, "worker")}`,
      detail: list(prompts.map(({ worker }) => worker)),
      life: 4000,
    });
    // The page follows one prompt for each request.
    return Response.json(prompts[0]);
  }
  return new Proxy(api, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (name === "fetchApi") return fetchApi;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
