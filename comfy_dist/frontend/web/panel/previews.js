// The newest preview of each prompt that this page queued; others' previews are not sent here.

import { api } from "../../../scripts/api.js";

const ENDS = ["execution_success", "execution_error", "execution_interrupted"];

/** A map {prompt id: URL of its picture}, which keeps up by itself. `changed` is called when it did. */
export function previews(changed) {
  const urls = new Map();

  function forget(id) {
    const url = urls.get(id);
    if (url) URL.revokeObjectURL(url);
    urls.delete(id);
  }

  api.addEventListener("b_preview_with_metadata", ({ detail }) => {
    const id = detail.jobId ?? detail.promptId;
    if (!id) return;
    forget(id);
    urls.set(id, URL.createObjectURL(detail.blob));
    changed();
  });
  for (const event of ENDS) api.addEventListener(event, ({ detail }) => forget(detail.prompt_id));
  // What ended while the connection was lost is not told again.
  api.addEventListener("reconnected", () => [...urls.keys()].forEach(forget));
  return urls;
}
