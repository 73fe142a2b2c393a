// The panel's elements are made anew from what is known; what changed of them is carried into those on the page,
// so that focus, scrolling, open details and half-typed names stay.

const HANDLERS = ["onclick", "onchange", "onsubmit"];

/** An element; children are elements and texts, and never HTML: names and messages come from other machines. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (HANDLERS.includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false && child !== ""));
  return element;
}

/** A button with a key of the deed that it does; out of use until that is done, though it keeps the focus. */
export function deedButton(cluster, key, label, deed, attributes = {}) {
  const asked = cluster.asked.has(key);
  const does = { "aria-disabled": asked && "true", onclick: () => asked || deed(key) };
  return h("button", { type: "button", "data-key": key, ...does, ...attributes }, label);
}

/** Makes `old`, which is on the page, like `fresh`. Children with a data-key keep it when their order changes. */
export function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    // Whether details are open is for who reads them.
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const name of HANDLERS) old[name] = fresh[name];
  // What tells its changes at once shows what is known; what a form asks for is left as it was typed.
  if (old.nodeName === "INPUT" && old.onchange) old.checked = fresh.checked;
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  const wanted = new Set([...fresh.children].map((child) => child.dataset.key));
  // What is gone goes first: whatever is moved loses its focus.
  for (const child of [...old.children]) if (!wanted.has(child.dataset.key) && child.dataset.key) child.remove();
  const kept = new Map([...old.children].map((child) => [child.dataset.key, child]));
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = child.dataset?.key ? kept.get(child.dataset.key) : next;
    if (!known || !alike(known, child)) {
      old.insertBefore(child, next);
      continue;
    }
    if (known === next) next = next.nextSibling;
    else old.insertBefore(known, next);
    morph(known, child);
  }
  while (next) {
    const rest = next.nextSibling;
    next.remove();
    next = rest;
  }
}

function alike(one, other) {
  return one.nodeName === other.nodeName && one.dataset?.key === other.dataset?.key;
}
