// What went wrong, by category: live, and as far back as the server's record goes.

import { get, part } from "./api.js";
import { tag } from "./badge.js";
import { foreign, h, keyed, setAttribute, setHidden, setText } from "./dom.js";
import { count, moment, plural } from "./format.js";
import { rewrite } from "./router.js";
import { addErrors } from "./state.js";
import { CATEGORIES, nameOf, SEVERITIES } from "./words.js";

const PAGE = 200;
const KEPT_MAX = 2000;

export default function errors(main, context) {
  return new ErrorsView(main, context);
}

class ErrorsView {
  constructor(main, { store, route }) {
    Object.assign(this, {
      title: "Errors",
      store,
      category: route.query.get("category") ?? "",
      severity: route.query.get("severity") ?? "",
      entries: new Map(),
      cursor: null,
      over: false,
      loading: false,
      closed: false,
    });
    this.says = h("span", { class: "quiet num" });
    this.categories = h("div", { class: "categories", role: "group", "aria-label": "Category" });
    this.severities = SEVERITIES.map((severity) =>
      h(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-pressed": String(this.severity === severity),
          on: { click: () => this.choose({ severity: this.severity === severity ? "" : severity }) },
        },
        severity,
      ),
    );
    this.rows = h("ul", { class: "rows errors-list" });
    this.empty = h(
      "div",
      { class: "empty", hidden: true },
      h("h2", {}, "No error"),
      h("p", { class: "quiet" }, "Nothing went wrong that is on record."),
    );
    this.more = h("button", { type: "button", class: "button", on: { click: () => this.load() } }, "Older errors");
    this.problem = h("p", { class: "bad", hidden: true });
    main.append(
      h("div", { class: "view-head" }, h("h1", {}, "Errors"), this.says),
      h(
        "div",
        { class: "filters" },
        this.categories,
        h("div", { class: "chips", role: "group", "aria-label": "Severity" }, this.severities),
      ),
      h("section", { class: "card flush", "aria-label": "Entries" }, this.rows, this.empty),
      h("div", { class: "list-foot" }, this.problem, this.more),
    );
    this.stop = store.listen((changes) => {
      if (changes.topics.has("snapshot")) this.anew();
      if (changes.topics.has("errors")) this.take(store.state.errors);
    });
    this.take(store.state.errors);
    this.load();
  }

  close() {
    this.closed = true;
    this.stop();
  }

  anew() {
    this.cursor = null;
    this.over = false;
    this.load();
  }

  async load() {
    if (this.loading) return;
    this.loading = true;
    try {
      const answer = await get("errors", { query: { limit: PAGE, cursor: this.cursor } });
      if (this.closed) return;
      this.cursor = answer.next_cursor;
      this.over = !answer.next_cursor;
      this.take(answer.items ?? []);
      this.store.change((state) => addErrors(state, (answer.items ?? []).slice(0, 20)));
      setHidden(this.problem, true);
    } catch (problem) {
      setText(this.problem, problem.message);
      setHidden(this.problem, false);
    }
    this.loading = false;
    this.draw();
  }

  take(entries) {
    for (const entry of entries) this.entries.set(entry.id, entry);
    if (this.entries.size > KEPT_MAX)
      this.entries = new Map([...this.entries].sort((a, b) => b[0] - a[0]).slice(0, KEPT_MAX));
    this.draw();
  }

  choose(changes) {
    Object.assign(this, changes);
    const query = new URLSearchParams(
      Object.entries({ category: this.category, severity: this.severity }).filter(([, value]) => value),
    );
    rewrite(`#/errors${query.size > 0 ? `?${query}` : ""}`);
    for (const button of this.severities)
      setAttribute(button, "aria-pressed", String(button.textContent === this.severity));
    this.draw();
  }

  draw() {
    const all = [...this.entries.values()].sort((a, b) => b.id - a.id);
    const numbers = new Map();
    for (const { category } of all) numbers.set(category, (numbers.get(category) ?? 0) + 1);
    const known = [...new Set([...CATEGORIES.keys(), ...numbers.keys()])]
      .filter((category) => numbers.has(category) || category === this.category)
      .sort((a, b) => (numbers.get(b) ?? 0) - (numbers.get(a) ?? 0));
    const most = Math.max(1, ...numbers.values());
    keyed(
      this.categories,
      ["", ...known],
      (category) => category,
      (category) => this.categoryButton(category),
      (row, category) =>
        row.write(category === "" ? all.length : (numbers.get(category) ?? 0), category === "" ? null : most),
    );
    const shown = all.filter(
      (entry) =>
        (!this.category || entry.category === this.category) && (!this.severity || entry.severity === this.severity),
    );
    const now = this.store.now();
    keyed(
      this.rows,
      shown.slice(0, 500),
      (entry) => entry.id,
      (entry) => ({ element: rowOf(entry, now, this.store.state.jobs.get(entry.job_id)) }),
    );
    setText(this.says, `${plural(shown.length, "entry", "entries")}${this.over ? "" : " loaded"}`);
    setHidden(this.empty, shown.length > 0 || this.loading);
    setHidden(this.rows, shown.length === 0);
    setHidden(this.more, this.over || this.loading);
  }

  categoryButton(category) {
    const figure = h("span", { class: "num" });
    const fill = h("i", { class: "category-fill", "aria-hidden": "true" });
    const element = h(
      "button",
      { type: "button", class: "category", on: { click: () => this.choose({ category }) } },
      fill,
      h("span", {}, category === "" ? "All categories" : (CATEGORIES.get(category) ?? category)),
      figure,
    );
    return {
      element,
      write: (number, most) => {
        setText(figure, count(number));
        fill.style.inlineSize = most === null ? "0" : `${((number / most) * 100).toFixed(1)}%`;
        setAttribute(element, "aria-pressed", String(this.category === category));
      },
    };
  }
}

function rowOf(entry, now, job) {
  return h(
    "li",
    {},
    h(
      "div",
      { class: "error-head" },
      tag(entry.severity, entry.severity === "low" ? "plain" : entry.severity === "medium" ? "warn" : "bad"),
      h("code", {}, foreign(entry.code, { max: 100 })),
      h("span", { class: "quiet small" }, CATEGORIES.get(entry.category) ?? foreign(entry.category, { max: 60 })),
      h("time", { class: "quiet small num", datetime: entry.at }, moment(entry.at, now)),
    ),
    h("p", { class: "wrap" }, foreign(entry.message, { max: 2000 })),
    h(
      "p",
      { class: "quiet small" },
      entry.job_id && [
        "Job ",
        h("a", { href: `#/jobs/${part(entry.job_id)}` }, foreign(job ? nameOf(job) : entry.job_id, { max: 100 })),
        " ",
      ],
      entry.connection && ["from ", foreign(entry.connection, { max: 120 })],
    ),
  );
}
