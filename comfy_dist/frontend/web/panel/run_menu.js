// A further entry in the menu beside the page's Run button. The page has no hook for it: the entry is added to the
// menu when it opens. Where a page has no such menu, the command is in the page's menu and in the panel.

const TRIGGER = '[data-testid="queue-mode-menu-trigger"]';

export function addToRunMenu(label, act) {
  new MutationObserver(() => {
    const menu = openMenu();
    if (menu && !menu.querySelector("[data-comfy_dist]")) menu.append(entry(menu, label, act));
  }).observe(document.body, { childList: true });
}

/** The Run button's menu where it is open. */
function openMenu() {
  const trigger = document.querySelector(TRIGGER);
  const id = trigger?.getAttribute("aria-controls");
  return trigger?.getAttribute("aria-expanded") === "true" && id ? document.getElementById(id) : null;
}

/** Looks like the menu's other entries, and is reached by the arrow keys as they are. */
function entry(menu, label, act) {
  const like = menu.querySelector("[role^=menuitem]");
  const item = like?.cloneNode() ?? document.createElement("div");
  for (const name of ["aria-checked", "data-highlighted", "data-disabled", "id"]) item.removeAttribute(name);
  item.dataset.comfy_dist = "";
  item.setAttribute("role", "menuitem");
  item.tabIndex = -1;
  item.textContent = label;
  item.addEventListener("pointerenter", () => item.focus());
  item.addEventListener("focus", () => item.setAttribute("data-highlighted", ""));
  item.addEventListener("blur", () => item.removeAttribute("data-highlighted"));
  item.addEventListener("keydown", (event) => {
    if (!["Enter", " "].includes(event.key)) return;
    event.preventDefault();
    item.click();
  });
  item.addEventListener("click", () => {
    menu.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    act();
  });
  return item;
}
