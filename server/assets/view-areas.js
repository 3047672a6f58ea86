// The users, groups and projects that jobs of an account discovered, as a tree by host and path.

import { get, part } from "./api.js";
import { AreaTree } from "./areas-tree.js";
import { h, setHidden, setText } from "./dom.js";
import { Fetchers } from "./fetcher.js";
import { clean, plural } from "./format.js";
import { icon } from "./icons.js";
import { rewrite } from "./router.js";

const PAGE = 500;
const ENTRIES_MAX = 20000;

export default function areas(main, context) {
  return new AreasView(main, context);
}

class AreasView {
  constructor(main, { store, route }) {
    Object.assign(this, {
      title: "Areas",
      store,
      account: route.query.get("account") ?? "",
      entries: new Map(),
      cursor: null,
      over: false,
    });
    this.fetchers = new Fetchers();
    this.names = this.fetchers.add({
      load: (signal) => get("accounts", { signal }),
      done: (answer) => this.known((answer.items ?? []).map((item) => item.account_id)),
    });
    this.load = this.fetchers.add({
      load: (signal) => this.fetch(signal),
      done: () => this.draw(),
      failed: (problem) => this.failed(problem),
    });
    this.accounts = new Set();
    this.list = h("datalist", { id: "accounts" });
    this.input = h("input", {
      type: "text",
      id: "account",
      value: this.account,
      list: "accounts",
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "Account",
      on: { change: () => this.choose(this.input.value.trim()) },
    });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Accounts" });
    this.says = h("span", { class: "quiet num" });
    this.filter = h("input", {
      type: "search",
      id: "search",
      class: "search-input",
      placeholder: "Path or name",
      "aria-label": "Search areas",
      autocomplete: "off",
      on: { input: () => this.draw() },
    });
    this.tree = new AreaTree();
    this.note = h("p", { class: "quiet pad", role: "status" });
    this.more = h(
      "button",
      { type: "button", class: "button", hidden: true, on: { click: () => this.load.refresh({ soon: true }) } },
      "Load more",
    );
    main.append(
      h("div", { class: "view-head" }, h("h1", {}, "Areas"), this.says),
      h(
        "div",
        { class: "filters" },
        h(
          "div",
          { class: "area-filters" },
          h("label", { class: "mini", for: "account" }, h("span", {}, "Account"), this.input),
          this.list,
          h("div", { class: "search" }, icon("search"), this.filter),
        ),
        this.chips,
      ),
      h("section", { class: "card flush", "aria-label": "Areas of the account" }, this.tree.element, this.note),
      h("div", { class: "list-foot" }, this.more),
    );
    this.stop = store.listen((changes) => this.changed(changes));
    this.names.refresh();
    this.gather();
    if (!this.account && this.accounts.size > 0) this.choose([...this.accounts][0]);
    else if (this.account) this.load.refresh();
    else this.draw();
  }

  close() {
    this.stop();
    this.fetchers.close();
  }

  focusSearch() {
    this.filter.focus();
    return true;
  }

  changed(changes) {
    if (changes.topics.has("snapshot")) this.gather();
    // What a job of the account found is there when the job ends, at the latest.
    const { jobs } = this.store.state;
    for (const id of changes.jobs) {
      const job = jobs.get(id);
      if (job && !this.accounts.has(job.account_id)) this.known([job.account_id]);
      if (job?.account_id === this.account && (job.children > 0 || job.parent_id) && !this.seen?.has(id)) {
        (this.seen ??= new Set()).add(id);
        if (this.seen.size > ENTRIES_MAX) this.seen.clear();
        this.again();
      }
    }
  }

  again() {
    this.cursor = null;
    this.over = false;
    this.load.refresh();
  }

  gather() {
    const names = new Set();
    for (const job of this.store.state.jobs.values()) {
      names.add(job.account_id);
      if (names.size >= 30) break;
    }
    this.known([...names]);
  }

  known(names) {
    for (const name of names) if (typeof name === "string" && this.accounts.size < 200) this.accounts.add(name);
    this.list.replaceChildren(...[...this.accounts].map((name) => h("option", { value: name })));
    this.chips.replaceChildren(
      ...[...this.accounts].slice(0, 8).map((name) =>
        h(
          "button",
          {
            type: "button",
            class: "chip",
            "aria-pressed": String(name === this.account),
            on: { click: () => this.choose(name) },
          },
          h("bdi", { class: "cut" }, clean(name).slice(0, 40)),
        ),
      ),
    );
    if (!this.account && this.accounts.size > 0 && this.tree) this.choose([...this.accounts][0]);
  }

  choose(account) {
    if (this.account === account && this.entries.size > 0) return;
    Object.assign(this, { account, entries: new Map(), cursor: null, over: false, problem: null });
    this.input.value = account;
    rewrite(account ? `#/areas?account=${part(account)}` : "#/areas");
    this.known([]);
    this.draw();
    if (account) this.load.refresh({ soon: true });
  }

  async fetch(signal) {
    const { account } = this;
    const answer = await get(`accounts/${part(account)}/areas`, {
      signal,
      query: { limit: PAGE, cursor: this.cursor },
    });
    if (account !== this.account) return;
    for (const entry of answer.items ?? []) if (this.entries.size < ENTRIES_MAX) this.entries.set(entry.id, entry);
    this.cursor = answer.next_cursor;
    this.over = !answer.next_cursor;
  }

  failed(problem) {
    setText(this.note, problem.message);
    setHidden(this.note, false);
  }

  draw() {
    const words = this.filter.value.toLowerCase().trim();
    const all = [...this.entries.values()];
    const shown = words
      ? all.filter((entry) => `${entry.path}\n${entry.name}\n${entry.entity_id}`.toLowerCase().includes(words))
      : all;
    this.tree.set(shown, { openAll: words !== "" || all.length <= 60 });
    setText(
      this.says,
      this.account && this.over !== null && all.length > 0
        ? `${plural(shown.length, "area")}${this.over ? "" : " loaded"}`
        : "",
    );
    const note = !this.account
      ? "Name an account to see what it may reach."
      : all.length === 0 && this.over
        ? "Nothing was discovered for this account."
        : shown.length === 0 && words
          ? "Nothing matches."
          : "";
    setText(this.note, note);
    setHidden(this.note, note === "");
    setHidden(this.more, this.over || all.length === 0);
  }
}
