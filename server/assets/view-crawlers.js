// Who is connected, how each is, and what each does; below it the connections, and why others ended.

import { confirmAndSend } from "./acts.js";
import { get, part, post } from "./api.js";
import { tag } from "./badge.js";
import { Connections } from "./crawlers-connections.js";
import { FiguredBar } from "./bar.js";
import { foreign, h, keyed, rebuilt, setAttribute, setForeign, setHidden, setText } from "./dom.js";
import { Fetchers } from "./fetcher.js";
import { clean, count, cut, isNumber, plural, span } from "./format.js";
import { addJobs } from "./state.js";
import { nameOf, trouble } from "./words.js";

const JOBS_SHOWN = 8;
// Jobs of crawlers that are asked for one by one, because the stream did not tell of them.
const ASKED_MAX = 20;

const HEALTH = {
  active: ["good", "active", "a valid message came lately"],
  idle: ["plain", "idle", "silent for longer than a heartbeat"],
  error: ["bad", "error", "the last thing heard of it was wrong"],
  closing: ["warn", "closing", "its connection ends"],
  draining: ["warn", "draining", "it is given nothing new"],
};

const DRAIN = {
  label: "Drain",
  asks: "Drain this crawler?",
  does: "Drain it",
  says: "It finishes what it holds, and is given nothing new.",
  path: "drain",
};
const UNDRAIN = {
  label: "Use again",
  asks: "Use this crawler again?",
  does: "Use it again",
  says: "It is given jobs as before.",
  path: "undrain",
};
const DISCONNECT = {
  label: "Disconnect",
  asks: "Disconnect this crawler?",
  does: "Disconnect it",
  danger: true,
  says: "Its connection is closed. Its jobs stay its own as long as its lease lasts.",
  path: "disconnect",
  fields: [{ name: "reconnect", label: "It may come back", type: "checkbox", value: true }],
};

export default function crawlers(main, context) {
  return new CrawlersView(main, context);
}

class CrawlersView {
  constructor(main, { store, route }) {
    Object.assign(this, { title: "Crawlers", store, named: route.query.get("id"), asked: new Set() });
    this.fetchers = new Fetchers();
    this.says = h("span", { class: "quiet num" });
    this.cards = h("ul", { class: "cards" });
    this.empty = h(
      "div",
      { class: "empty", hidden: true },
      h("h2", {}, "No crawler is connected to this server"),
      h("p", {}, "Start one, for example the one that reads git repositories:"),
      h("pre", { tabindex: "0" }, "cargo run --release --example git_crawler -- --root ."),
    );
    this.connections = new Connections({ fetchers: this.fetchers, store });
    main.append(
      h("div", { class: "view-head" }, h("h1", {}, "Crawlers"), this.says),
      this.cards,
      this.empty,
      this.connections.element,
    );
    this.stop = [store.listen((changes) => this.changed(changes)), store.everySecond(() => this.tick())];
    this.connections.refresh();
    this.draw();
  }

  close() {
    for (const stop of this.stop) stop();
    this.fetchers.close();
  }

  changed(changes) {
    if (["connections", "snapshot", "crawler"].some((topic) => changes.topics.has(topic))) this.connections.refresh();
    if (changes.topics.has("crawlers") || changes.jobs.size > 0) this.draw();
  }

  tick() {
    for (const card of this.shown?.values() ?? []) card.tick();
  }

  draw() {
    const { state } = this.store;
    const all = [...state.crawlers.values()];
    this.ask(all);
    this.shown = keyed(
      this.cards,
      all,
      (crawler) => crawler.id,
      () => new CrawlerCard(this),
      (card, crawler) => card.write(crawler),
    );
    setText(this.says, state.crawlersKnown ? plural(all.length, "crawler") : "");
    setHidden(this.empty, !state.crawlersKnown || all.length > 0);
    const named = this.named && this.shown.get(this.named);
    if (named) {
      this.named = null;
      named.element.scrollIntoView({ block: "center" });
      named.element.setAttribute("data-named", "");
    }
  }

  ask(all) {
    for (const id of all.flatMap((crawler) => (crawler.jobs ?? []).slice(0, JOBS_SHOWN))) {
      if (this.store.state.jobs.has(id) || this.asked.has(id) || this.asked.size >= ASKED_MAX) continue;
      this.asked.add(id);
      this.fetchers
        .add({
          load: (signal) => get(`jobs/${part(id)}`, { signal }),
          done: (job) => this.store.change((state) => addJobs(state, [job])),
        })
        .refresh();
    }
  }

  async act(crawler, { asks, does, says, danger, path, fields = [] }) {
    await confirmAndSend({
      title: asks,
      says: [cut(clean(crawler.id), 100), says],
      confirm: does,
      danger,
      fields,
      send: ({ by, ...values }) => post(`crawlers/${part(crawler.id)}/${path}`, { ...values, ...by }),
      done: () => "Done",
    });
  }
}

class CrawlerCard {
  constructor(view) {
    this.view = view;
    this.name = h("bdi", { dir: "auto" });
    this.health = h("span", { class: "tag" });
    this.software = h("p", { class: "quiet small" });
    this.figures = h("dl", { class: "figures" });
    this.jobs = h("ul", { class: "held" });
    this.note = h("p", { class: "quiet small" });
    this.more = h("dl", { class: "facts" });
    this.acts = h("div", { class: "acts", role: "group", "aria-label": "What can be done" });
    this.element = h(
      "li",
      { class: "card crawler" },
      h("div", { class: "card-head" }, h("h2", { class: "cut" }, this.name), this.health),
      this.software,
      this.figures,
      this.jobs,
      this.note,
      h("details", { class: "fold" }, h("summary", {}, "More"), this.more, this.acts),
    );
  }

  write(crawler) {
    this.crawler = crawler;
    setForeign(this.name, crawler.id, 200);
    const [tone, word, says] = HEALTH[crawler.draining ? "draining" : crawler.state] ?? [
      "plain",
      crawler.state ?? "connected",
      "",
    ];
    setText(this.health, word);
    rebuilt(this.acts, String(Boolean(crawler.draining)), () =>
      [crawler.draining ? UNDRAIN : DRAIN, DISCONNECT].map((act) =>
        h(
          "button",
          {
            type: "button",
            class: `button small ${act.danger ? "danger-quiet" : ""}`,
            on: { click: () => this.view.act(this.crawler, act) },
          },
          act.label,
        ),
      ),
    );
    setAttribute(this.health, "data-tone", tone);
    setAttribute(this.health, "title", says);
    rebuilt(this.software, JSON.stringify([crawler.software, crawler.role, crawler.dialect]), () => [
      crawler.software ? foreign(crawler.software, { max: 120 }) : "unnamed program",
      ` · ${crawler.role ?? "crawler"} · ${crawler.dialect} protocol`,
    ]);
    const jobs = (crawler.jobs ?? []).slice(0, JOBS_SHOWN);
    keyed(
      this.jobs,
      jobs,
      (id) => id,
      (id) => new HeldRow(id),
      (row, id) => row.write(this.view.store.state.jobs.get(id)),
    );
    const notes = [];
    if ((crawler.jobs ?? []).length === 0) notes.push("It holds no job.");
    if ((crawler.jobs ?? []).length > JOBS_SHOWN) notes.push(`and ${count(crawler.jobs.length - JOBS_SHOWN)} more.`);
    if ((crawler.lingering ?? []).length > 0)
      notes.push(`${plural(crawler.lingering.length, "job")} taken from it, whose end it has not reported.`);
    setText(this.note, notes.join(" "));
    rebuilt(
      this.more,
      JSON.stringify([
        crawler.instance_id,
        crawler.epoch,
        crawler.principal,
        crawler.identity,
        crawler.features,
        crawler.high_water_seq,
        crawler.labels,
        crawler.job_types,
        crawler.heard,
      ]),
      () =>
        [
          ["Crawler", crawler.crawler_id],
          ["Instance", crawler.instance_id],
          ["Connection of it", crawler.epoch],
          ["Proved to be", crawler.principal],
          ["Process", crawler.identity],
          ["Features", (crawler.features ?? []).join(", ")],
          ["Labels", (crawler.labels ?? []).join(", ")],
          ["Job types", (crawler.job_types ?? []).join(", ")],
          ["Last number settled", crawler.high_water_seq],
          ["Messages when last told of", count(crawler.messages)],
          ["Silent when last told of", isNumber(crawler.silent_ms) ? span(crawler.silent_ms) : null],
        ]
          .filter(([, value]) => value !== null && value !== undefined && value !== "")
          .map(([name, value]) =>
            h("div", {}, h("dt", {}, name), h("dd", {}, foreign(value, { max: 400, className: "wrap" }))),
          ),
    );
    this.tick();
  }

  tick() {
    const { crawler } = this;
    const since = Date.now() - crawler.heard;
    const slots = isNumber(crawler.slots)
      ? `${count((crawler.jobs ?? []).length)} of ${count(crawler.slots)}`
      : count((crawler.jobs ?? []).length);
    const figures = [
      ["Jobs", slots],
      [
        "Here for",
        isNumber(crawler.connected_ms) ? span(Math.floor((crawler.connected_ms + since) / 1000) * 1000) : "–",
      ],
    ];
    if (crawler.system_status) figures.push(["Says of itself", cut(clean(crawler.system_status), 60)]);
    const mark = JSON.stringify(figures);
    rebuilt(this.figures, mark, () =>
      figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "num" }, value))),
    );
  }
}

class HeldRow {
  constructor(id) {
    this.id = id;
    this.name = h("bdi", { dir: "auto" });
    this.trouble = tag("", "warn");
    this.bar = new FiguredBar();
    this.element = h(
      "li",
      {},
      h("a", { class: "cut", href: `#/jobs/${part(id)}` }, this.name),
      this.trouble,
      this.bar.element,
    );
  }

  write(job) {
    setForeign(this.name, job ? nameOf(job) : this.id, 160);
    setHidden(this.bar.element, !job);
    const wrong = job ? trouble(job) : null;
    setHidden(this.trouble, !wrong);
    if (wrong) {
      setText(this.trouble, wrong.word);
      setAttribute(this.trouble, "data-tone", wrong.kind);
    }
    if (job) this.bar.setJob(job);
  }
}
