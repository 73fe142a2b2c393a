// What a worker said last, kept up with while it is looked at. Esc closes it, as a click beside it does.

import { ask } from "./asking.js";
import { h } from "./elements.js";

/** Milliseconds between two looks. */
const AGAIN = 2000;
/** Pixels from the end within which the reader is taken along. */
const NEAR = 40;

/** Show the log that `path` answers, as {lines}. */
export function showLog(name, path) {
  const text = h("pre", { tabindex: 0 }, "…");
  const close = h("button", { type: "button", onclick: () => view.close() }, "Close");
  const view = h(
    "dialog",
    { class: "cd-panel cd-log", "aria-label": `Log of ${name}` },
    h("header", {}, h("h3", {}, `Log of ${name}`), close),
    text,
  );
  let timer = 0;

  async function look() {
    let lines;
    try {
      ({ lines } = await ask("GET", path));
    } catch (error) {
      lines = [error.message];
    }
    if (!view.open) return;
    const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < NEAR;
    text.textContent = lines.length ? lines.join("\n") : "It has said nothing yet.";
    if (atEnd) text.scrollTop = text.scrollHeight;
    timer = setTimeout(look, AGAIN);
  }

  view.addEventListener("click", ({ target }) => target === view && view.close());
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
