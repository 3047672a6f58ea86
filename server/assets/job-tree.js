// The jobs below a job, level by level as they are opened, and how far the whole tree is. Live from the stream.

import { get, part } from "./api.js";
import { FiguredBar } from "./bar.js";
import { StateBadge } from "./badge.js";
import { h, keyed, setAttribute, setForeign, setHidden, setText } from "./dom.js";
import { brief, count, plural } from "./format.js";
import { icon } from "./icons.js";
import { addJobs } from "./state.js";
import { nameOf, typeNoun } from "./words.js";

const PAGE = 100;
// Rows of one node; more are on the list, which is made for many.
const SHOWN_MAX = 500;

export class JobTree {
  constructor({ store, fetchers, id, job }) {
    Object.assign(this, { store, fetchers, id, job });
    this.bar = new FiguredBar({ label: "Progress of the whole tree" });
    this.says = h("p", { class: "quiet small num" });
    this.sum = h("p", { class: "quiet small num" });
    this.together = h("div", { hidden: true }, this.bar.element, this.sum);
    this.list = h("ul", { class: "tree" });
    this.all = h("a", { class: "small", href: `#/jobs?root=${part(job().root_id)}` }, "In the list");
    this.element = h(
      "section",
      { class: "card", "aria-labelledby": "tree-title", hidden: true },
      h("div", { class: "card-head" }, h("h2", { id: "tree-title" }, "Tree below it"), this.all),
      this.together,
      this.says,
      this.list,
    );
    this.top = new Node({ tree: this, id, list: this.list });
    this.top.open();
  }

  refresh() {}

  // All of the tree together, which belongs to the submitted job at its top.
  whole(sum) {
    const mine = sum?.root_id === this.id && sum.jobs > 1;
    setHidden(this.together, !mine);
    if (!mine) return;
    this.bar.set({
      share: sum.completion,
      open: sum.status === "open" && sum.discovering,
      tone: sum.status === "open" ? "running" : sum.status,
    });
    setText(
      this.sum,
      `${brief(sum.done)} of ${sum.discovering ? "at least " : ""}${brief(sum.expected)} items in the whole tree · ${count(sum.jobs_reported)} of ${plural(sum.jobs, "job")} have reported`,
    );
  }

  draw(job) {
    const { tree } = job;
    const some = job.children > 0;
    setHidden(this.element, !some);
    if (!some) return;
    const parts = [plural(job.children, "child", "children")];
    if (!job.parent_id && tree?.jobs > job.children) parts.push(`${count(tree.jobs)} on all levels`);
    if (tree?.open_children > 0) parts.push(`${count(tree.open_children)} still open`);
    if (tree?.failed_children > 0) parts.push(`${count(tree.failed_children)} not well`);
    if (job.tree_status !== "open") parts.push(`tree ${job.tree_status}`);
    setText(this.says, parts.join(" · "));
    this.top.draw();
  }

  changed(changes, { anew }) {
    if (anew) this.top.again();
    const { jobs } = this.store.state;
    for (const id of changes.jobs) {
      const job = jobs.get(id);
      if (!job?.parent_id) continue;
      this.nodes?.get(job.parent_id)?.child(job);
    }
    if (changes.jobs.size > 0) this.top.draw(changes.jobs);
  }

  register(node) {
    this.nodes ??= new Map();
    this.nodes.set(node.id, node);
  }
}

// One job whose children may be shown.
class Node {
  constructor({ tree, id, list }) {
    Object.assign(this, { tree, id, list, opened: false, children: new Map(), cursor: null, over: false });
    tree.register(this);
    this.fetcher = tree.fetchers.add({
      load: (signal) => get(`jobs/${part(id)}/children`, { signal, query: { limit: PAGE, cursor: this.cursor } }),
      done: (answer) => this.came(answer),
    });
    this.more = h(
      "button",
      { type: "button", class: "button small", on: { click: () => this.fetcher.refresh({ soon: true }) } },
      "Show more",
    );
    this.end = { element: h("li", { class: "tree-more", hidden: true }, this.more) };
  }

  open() {
    this.opened = true;
    if (this.children.size === 0 || !this.over) this.fetcher.refresh({ soon: true });
    this.draw();
  }

  shut() {
    this.opened = false;
    this.draw();
  }

  // After a snapshot nothing is known of what happened meanwhile.
  again() {
    Object.assign(this, { cursor: null, over: false });
    if (this.opened) this.fetcher.refresh();
  }

  came(answer) {
    const items = answer.items ?? [];
    for (const job of items) this.children.set(job.id, job);
    this.cursor = answer.next_cursor;
    this.over = !answer.next_cursor;
    this.tree.store.change((state) => addJobs(state, items));
    this.draw();
  }

  child(job) {
    if (this.children.has(job.id) || this.children.size < SHOWN_MAX) this.children.set(job.id, job);
  }

  draw(changed = null) {
    if (!this.opened) {
      keyed(this.list, [], () => null);
      return;
    }
    const held = this.tree.store.state.jobs;
    const rows = [...this.children.keys()]
      .slice(0, SHOWN_MAX)
      .map((id) => held.get(id) ?? this.children.get(id))
      .sort((a, b) => (`${a.created_at}${a.id}` < `${b.created_at}${b.id}` ? -1 : 1));
    const end = { id: "", end: true };
    keyed(
      this.list,
      [...rows, end],
      (job) => job.id,
      (job) => (job.end ? this.end : new TreeRow(this.tree, job.id)),
      (row, job) => {
        if (!job.end) row.write(job, changed);
      },
    );
    setHidden(this.end.element, this.over || this.children.size === 0 || this.children.size >= SHOWN_MAX);
  }
}

class TreeRow {
  constructor(tree, id) {
    this.tree = tree;
    this.id = id;
    this.toggle = h(
      "button",
      { type: "button", class: "tree-toggle", "aria-expanded": "false", on: { click: () => this.flip() } },
      icon("open"),
    );
    this.name = h("bdi", { dir: "auto" });
    this.type = h("span", { class: "quiet small" });
    this.badge = new StateBadge();
    this.bar = new FiguredBar();
    this.below = h("ul", { class: "tree", hidden: true });
    this.element = h(
      "li",
      {},
      h(
        "div",
        { class: "tree-row" },
        this.toggle,
        h("a", { class: "cut", href: `#/jobs/${part(id)}` }, this.name),
        this.type,
        this.badge.element,
        this.bar.element,
      ),
      this.below,
    );
  }

  flip() {
    this.node ??= new Node({ tree: this.tree, id: this.id, list: this.below });
    if (this.node.opened) this.node.shut();
    else this.node.open();
    setHidden(this.below, !this.node.opened);
    setAttribute(this.toggle, "aria-expanded", String(this.node.opened));
  }

  write(job, changed) {
    const some = job.children > 0;
    this.toggle.style.visibility = some ? "visible" : "hidden";
    setForeign(this.name, nameOf(job), 200);
    setAttribute(this.toggle, "aria-label", `Jobs below ${this.name.textContent.slice(0, 80)}`);
    setText(
      this.type,
      some
        ? `${typeNoun(job.job_type)}, ${plural(job.children, "child", "children")}${job.tree?.open_children > 0 ? `, ${count(job.tree.open_children)} open` : ""}`
        : typeNoun(job.job_type),
    );
    this.badge.setJob(job);
    this.bar.setJob(job);
    this.node?.draw(changed);
  }
}
