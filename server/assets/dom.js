// Builds elements. Values from crawlers and from those who submit jobs reach the page through here only: as text nodes
// and attributes, never as markup.

import { clean, cut } from "./format.js";

// Characters of one foreign value in a title.
const TITLE_MAX = 2000;

const SVG = "http://www.w3.org/2000/svg";

// `h("a", { class: "x", href: "#/", on: { click } }, "text", child, null)`: null, undefined and false are left out.
export function h(tag, props, ...children) {
  const made = document.createElement(tag);
  assign(made, props);
  append(made, children);
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  append(made, children);
  return made;
}

function assign(made, props) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (name === "class") made.className = value;
    else if (name === "text") made.textContent = value;
    else if (name === "value") made.value = value;
    else if (name === "checked") made.checked = Boolean(value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
}

function append(made, children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    made.append(child instanceof Node ? child : String(child));
  }
}

// A value that comes from somebody else: by itself as to the direction of writing, and whole in its title where it is cut.
export function foreign(value, { max = 300, className } = {}) {
  const made = h("bdi", { class: className, dir: "auto" });
  setForeign(made, value, max);
  return made;
}

export function setForeign(element, value, max = 300) {
  const whole = clean(value);
  const shown = cut(whole, max);
  setText(element, shown);
  if (whole.length > 24) setAttribute(element, "title", cut(whole, TITLE_MAX));
  else element.removeAttribute("title");
}

// What has not changed is not touched, so that nothing is laid out again for it.
export function setText(element, value) {
  const text = String(value ?? "");
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

// Brings the children of `container` into the order of `items`, one element for each key, and writes each. Elements that stand
// right are left where they are, so focus and selection stay.
export function keyed(container, items, key, create, write) {
  const old = container.keyedParts ?? new Map();
  const parts = new Map();
  let next = container.firstChild;
  for (const item of items) {
    const name = key(item);
    if (parts.has(name)) continue;
    const part = old.get(name) ?? create(item);
    parts.set(name, part);
    old.delete(name);
    if (part.element === next) next = next.nextSibling;
    else container.insertBefore(part.element, next);
    write?.(part, item);
  }
  for (const part of old.values()) part.element.remove();
  container.keyedParts = parts;
  return parts;
}

// Replaces the content only where `mark` differs from the last one.
export function rebuilt(container, mark, build) {
  if (container.builtMark === mark) return;
  container.builtMark = mark;
  container.replaceChildren(
    ...[build()].flat(3).filter((child) => child !== null && child !== undefined && child !== false),
  );
}
