// The list of jobs: live, filtered, of any length.

import { get } from "./api.js";
import { h, setAttribute, setHidden, setText } from "./dom.js";
import { count, plural } from "./format.js";
import { icon } from "./icons.js";
import { JobRow } from "./jobs-row.js";
import { Older } from "./jobs-older.js";
import { chooser, filterOf, hashOf, matcher } from "./jobs-filter.js";
import { addJobs, countsOf } from "./state.js";
import { VirtualList } from "./virtual.js";
import { GROUPS } from "./words.js";
import { go, rewrite } from "./router.js";

// After the last key in the search field.
const SEARCH_AFTER_MS = 250;

export default function jobs(main, context) {
  return new JobsView(main, context);
}

class JobsView {
  constructor(main, { store, route }) {
    this.title = "Jobs";
    this.store = store;
    this.filter = filterOf(route.query);
    this.chosen = null;
    this.build(main);
    this.older = new Older({
      fetch: (query, signal) => get("jobs", { query, signal }),
      came: (items) => store.change((state) => addJobs(state, items)),
      changed: () => this.turned(),
    });
    this.begin();
    this.stop = [store.listen((changes) => this.changed(changes)), store.everySecond(() => this.tick())];
    this.arrange();
    this.drawGroups();
    if (route.query.get("focus") === "search") this.focusSearch();
  }

  close() {
    for (const stop of this.stop) stop();
    clearTimeout(this.typing);
    this.older.close();
    this.list.close();
  }

  build(main) {
    this.search = h("input", {
      type: "search",
      id: "search",
      class: "search-input",
      placeholder: "Name, path, id, account, host",
      value: this.filter.q,
      autocomplete: "off",
      spellcheck: "false",
      "aria-label": "Search jobs",
      on: { input: () => this.typed() },
    });
    this.groups = new Map(
      GROUPS.map((group) => {
        const figure = h("span", { class: "num" });
        const button = h(
          "button",
          {
            type: "button",
            class: "chip",
            "aria-pressed": "false",
            on: { click: () => this.refilter({ group: group.id }) },
          },
          group.label,
          " ",
          figure,
        );
        return [group.id, { group, button, figure }];
      }),
    );
    this.more = h(
      "div",
      { class: "filter-more" },
      chooser(this.filter, (changes) => this.refilter(changes)),
    );
    this.rows = h("div", { class: "vlist", role: "rowgroup" });
    this.table = h(
      "div",
      { class: "table jobs-table", role: "table", "aria-label": "Jobs, newest first" },
      h(
        "div",
        { class: "jobs-head", role: "rowgroup" },
        h(
          "div",
          { class: "job-row head", role: "row", "aria-rowindex": "1" },
          ["Job", "State", "Progress", "Time left", "Changed"].map((name) => h("span", { role: "columnheader" }, name)),
        ),
      ),
      this.rows,
    );
    this.foot = h("div", { class: "list-foot" });
    this.empty = h("div", { class: "empty", hidden: true });
    this.shown = h("span", { class: "quiet num" });
    main.append(
      h("div", { class: "view-head" }, h("h1", {}, "Jobs"), this.shown),
      h(
        "div",
        { class: "filters" },
        h("div", { class: "search" }, icon("search"), this.search, h("kbd", { "aria-hidden": "true" }, "/")),
        h(
          "div",
          { class: "chips", role: "group", "aria-label": "State" },
          [...this.groups.values()].map(({ button }) => button),
        ),
        this.more,
      ),
      this.table,
      this.empty,
      this.foot,
    );
    this.list = new VirtualList({
      container: this.rows,
      create: () => new JobRow(),
      write: (row, id) => this.write(row, id),
      onEnd: () => this.older.next(),
    });
  }

  write(row, id) {
    const job = this.store.state.jobs.get(id);
    if (job) row.write(job, this.store.now(), id === this.chosen);
  }

  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.refilter({ q: this.search.value.trim() }), SEARCH_AFTER_MS);
  }

  refilter(changes) {
    this.filter = { ...this.filter, ...changes };
    rewrite(hashOf(this.filter));
    this.begin();
    window.scrollTo(0, 0);
    this.arrange();
    this.drawGroups();
    // A narrowed list may have its matches among the older jobs, which are not here.
    if (this.list.items.length < 50) this.older.next();
  }

  changed(changes) {
    if (changes.topics.has("snapshot")) this.begin();
    if (changes.order || (this.filter.narrow && changes.jobs.size > 0)) this.arrange();
    this.list.refresh(changes.jobs);
    if (changes.topics.has("counts") || changes.order) this.drawGroups();
  }

  // Older jobs from the newest on, unless all are here.
  begin() {
    const { known, partial } = this.store.state;
    this.older.begin(this.filter, { over: known && !partial });
  }

  arrange() {
    const { state } = this.store;
    const matches = matcher(this.filter);
    this.filter.narrow = matches !== null;
    const items = matches === null ? state.order : state.order.filter((id) => matches(state.jobs.get(id)));
    this.list.set(matches === null ? items.slice() : items);
    setAttribute(this.table, "aria-rowcount", items.length + 1);
    setHidden(this.table, items.length === 0);
    this.drawFoot();
  }

  drawGroups() {
    const { counts, all, whose } = countsOf(this.store.state);
    for (const { group, button, figure } of this.groups.values()) {
      const number = group.states === null ? all : group.states.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
      setText(figure, this.store.state.known ? count(number) : "");
      setAttribute(button, "aria-pressed", String(this.filter.group === group.id));
      setAttribute(button, "title", whose === "page" ? "Of the jobs that are loaded here" : null);
    }
  }

  // A page may be empty, and the next one not.
  turned() {
    this.drawFoot();
    if (!this.older.loading && !this.older.problem) this.list.place();
  }

  drawFoot() {
    const { state } = this.store;
    const { length } = this.list.items;
    setText(this.shown, state.known ? `${plural(length, "job")}${this.older.over ? "" : " loaded"}` : "");
    const waits = this.older.loading ? "Loading older jobs…" : null;
    const failed = this.older.problem;
    this.foot.replaceChildren(
      ...[
        waits && h("p", { class: "quiet" }, waits),
        failed && h("p", { class: "bad" }, `Older jobs could not be loaded: ${failed.message} `),
        !waits &&
          !this.older.over &&
          state.known &&
          h(
            "button",
            { type: "button", class: "button", on: { click: () => this.older.next({ anew: true }) } },
            "Load older jobs",
          ),
      ].filter(Boolean),
    );
    setHidden(this.empty, length > 0 || !state.known || this.older.loading);
    if (!this.empty.hidden) this.drawEmpty();
  }

  drawEmpty() {
    this.empty.replaceChildren(
      ...(this.filter.narrow
        ? [
            h("h2", {}, "No job matches"),
            h(
              "p",
              {},
              h("button", { type: "button", class: "button", on: { click: () => this.clear() } }, "Show all jobs"),
            ),
          ]
        : [
            h("h2", {}, "There are no jobs yet"),
            h("p", {}, "Submit one; a crawler takes it as soon as one is connected."),
            h("p", {}, h("a", { class: "button primary", href: "#/submit" }, "Submit a job")),
          ]),
    );
  }

  clear() {
    this.search.value = "";
    this.refilter({ q: "", group: "all", type: "", account: "", host: "", root: "", tops: false, tag: "" });
    this.more.replaceChildren(chooser(this.filter, (changes) => this.refilter(changes)));
  }

  tick() {
    const now = this.store.now();
    for (const row of this.list.rows.values()) row.tick(now);
  }

  focusSearch() {
    window.scrollTo(0, 0);
    this.search.focus();
    this.search.select();
    return true;
  }

  onKey(event) {
    const { items } = this.list;
    const at = this.chosen === null ? -1 : (this.list.places.get(this.chosen) ?? -1);
    const steps = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    if (event.key === "Enter" && at >= 0 && document.activeElement === document.body)
      return (go(`#/jobs/${encodeURIComponent(this.chosen)}`), true);
    if (!Object.hasOwn(steps, event.key) || items.length === 0) return false;
    const next =
      at < 0 && Number.isFinite(steps[event.key]) ? 0 : Math.min(items.length - 1, Math.max(0, at + steps[event.key]));
    const old = this.list.rows.get(this.chosen);
    this.chosen = items[next];
    const row = this.list.reach(next);
    if (old && old !== row) this.write(old, old.id);
    if (row) {
      this.write(row, this.chosen);
      row.link.focus({ preventScroll: true });
    }
    return true;
  }
}
