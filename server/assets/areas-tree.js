// Areas as a tree: hosts, in them groups by the parts of their paths, in those projects; users by themselves. What is shut has no
// elements.

import { h, keyed, setAttribute, setForeign, setText } from "./dom.js";
import { count } from "./format.js";
import { icon } from "./icons.js";
import { hostOf } from "./words.js";

// Children of one node that are shown.
const SHOWN_MAX = 1000;

export class AreaTree {
  constructor() {
    this.opened = new Map();
    this.element = h("ul", {
      class: "area-tree",
      role: "tree",
      "aria-label": "Areas",
      on: { keydown: (event) => this.key(event) },
    });
  }

  set(entries, { openAll }) {
    this.openAll = openAll;
    this.roots = treeOf(entries);
    this.element.hidden = this.roots.length === 0;
    this.draw();
  }

  draw() {
    this.level(this.element, this.roots, 1);
    const focusable = this.element.querySelector('[tabindex="0"]');
    if (!focusable)
      setAttribute(
        this.element.querySelector("[role=treeitem]") ?? this.element,
        "tabindex",
        this.roots.length > 0 ? "0" : null,
      );
  }

  level(list, nodes, depth) {
    keyed(
      list,
      nodes.slice(0, SHOWN_MAX),
      (node) => node.key,
      (node) => this.item(node),
      (item, node) => {
        const open = node.children.length > 0 && this.isOpen(node, depth);
        item.node = node;
        setForeign(item.name, node.label, 200);
        setText(
          item.under,
          node.entry && node.entry.name && node.entry.name !== node.label ? node.entry.name.slice(0, 120) : "",
        );
        setText(item.number, node.children.length > 0 ? count(node.size) : "");
        setAttribute(item.element, "aria-level", depth);
        setAttribute(item.element, "aria-expanded", node.children.length > 0 ? String(open) : null);
        item.sign.style.visibility = node.children.length > 0 ? "visible" : "hidden";
        this.level(item.list, open ? node.children : [], depth + 1);
        item.list.hidden = !open;
      },
    );
  }

  isOpen(node, depth) {
    return this.opened.get(node.key) ?? (this.openAll || depth === 1);
  }

  item(node) {
    const sign = icon("open", "icon area-sign");
    const name = h("bdi", { dir: "auto" });
    const under = h("bdi", { class: "quiet small" });
    const number = h("span", { class: "quiet small num" });
    const list = h("ul", { role: "group" });
    const line = h(
      "div",
      { class: "area-line" },
      sign,
      icon(node.kind),
      h("span", { class: "cut" }, name),
      under,
      number,
    );
    const element = h("li", { role: "treeitem", tabindex: "-1" }, line, list);
    const item = { element, name, under, number, list, sign, node };
    line.addEventListener("click", () => {
      this.flip(item.node);
      this.focus(element);
    });
    element.areaItem = item;
    return item;
  }

  flip(node, open) {
    if (node.children.length === 0) return;
    const depth = Number(this.elementOf(node)?.getAttribute("aria-level") ?? 1);
    const now = this.isOpen(node, depth);
    if (open === now) return;
    this.opened.set(node.key, !now);
    this.draw();
  }

  elementOf(node) {
    return [...this.element.querySelectorAll("[role=treeitem]")].find(
      (element) => element.areaItem.node.key === node.key,
    );
  }

  focus(element) {
    for (const other of this.element.querySelectorAll('[tabindex="0"]')) other.setAttribute("tabindex", "-1");
    element.setAttribute("tabindex", "0");
    element.focus();
  }

  key(event) {
    const here = event.target.closest("[role=treeitem]");
    if (!here) return;
    const all = [...this.element.querySelectorAll("[role=treeitem]")];
    const at = all.indexOf(here);
    const { node } = here.areaItem;
    const open = here.getAttribute("aria-expanded") === "true";
    const moves = {
      ArrowDown: () => all[at + 1],
      ArrowUp: () => all[at - 1],
      Home: () => all[0],
      End: () => all[all.length - 1],
      ArrowRight: () => (open ? all[at + 1] : (this.flip(node, true), here)),
      ArrowLeft: () => (open ? (this.flip(node, false), here) : here.parentElement.closest("[role=treeitem]")),
      Enter: () => (this.flip(node), here),
      " ": () => (this.flip(node), here),
    };
    if (!Object.hasOwn(moves, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    const next = moves[event.key]();
    if (next) this.focus(next);
  }
}

// Nodes { key, label, kind, entry, children, size }, hosts first. Pure.
export function treeOf(entries) {
  const hosts = new Map();
  const make = (key, label, kind) => ({ key, label, kind, entry: null, children: new Map(), size: 0 });
  for (const entry of entries) {
    const host = take(hosts, entry.gitlab_host, () => make(entry.gitlab_host, hostOf(entry.gitlab_host), "host"));
    const path = String(entry.path || entry.entity_id);
    const parts = entry.kind === "user" ? ["users", path] : path.split("/").filter(Boolean);
    if (parts.length === 0) parts.push(path);
    let node = host;
    parts.forEach((part, index) => {
      const last = index === parts.length - 1;
      const key = `${node.key}\u0000${last && entry.kind !== "group" ? entry.kind : "group"}\u0000${part}`;
      const label = entry.kind === "user" && !last ? "Users" : part === "." ? entry.name || "." : part;
      node = take(node.children, key, () => make(key, label, last ? entry.kind : "group"));
    });
    node.entry = entry;
  }
  return [...hosts.values()].map(settle);
}

function take(map, key, make) {
  if (!map.has(key)) map.set(key, make());
  return map.get(key);
}

const ORDER = { group: 0, project: 1, user: 2 };

function settle(node) {
  const children = [...node.children.values()]
    .map(settle)
    .sort((a, b) => (ORDER[a.kind] ?? 3) - (ORDER[b.kind] ?? 3) || a.label.localeCompare(b.label));
  const size = children.reduce((sum, child) => sum + child.size + (child.entry ? 1 : 0), 0);
  return { ...node, children, size };
}
