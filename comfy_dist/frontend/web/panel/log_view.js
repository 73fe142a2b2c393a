// What a worker said last, kept up with while it is looked at. Esc closes it, as a click beside it does.

import { ask } from "./asking.js";
import { h } from "./elements.js";

/** Milliseconds between two looks. */
const AGAIN = 2000;
/** Pixels from the end within which the reader is taken along. */
const NEAR = 40;

/** Show the log that `path` answers, as {lines}. */
export function showLog(name, path) {
  const text = h("pre", { tabindex: 0, "aria-label": "What it said last" }, "…");
  const trouble = h("p", { class: "cd-error", role: "alert" });
  const close = h("button", { type: "button", onclick: () => view.close() }, "Close");
  const view = h(
    "dialog",
    { class: "cd-panel cd-log", "aria-label": `Log of ${name}` },
    h("header", {}, h("h3", {}, `Log of ${name}`), close),
    trouble,
    text,
  );
  let timer = 0;

  async function look() {
    if (!document.hidden) {
      try {
        show((await ask("GET", path)).lines);
        trouble.textContent = "";
      } catch (error) {
        // What it said before is the more worth reading.
        trouble.textContent = error.message;
      }
    }
    if (view.open) timer = setTimeout(look, AGAIN);
  }

  function show(lines) {
    const said = lines.length ? lines.join("\n") : "It has said nothing yet.";
    // A reader may have marked some of it.
    if (said === text.textContent) return;
    const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < NEAR;
    text.textContent = said;
    if (atEnd) text.scrollTop = text.scrollHeight;
  }

  // Not at a click: one that marks text may end beside it.
  view.addEventListener("pointerdown", ({ target }) => target === view && view.close());
  // The page's own keys are not meant while this is open.
  view.addEventListener("keydown", (event) => event.stopPropagation());
  view.addEventListener("close", () => {
    clearTimeout(timer);
    view.remove();
  });
  document.body.append(view);
  view.showModal();
  look();
}
