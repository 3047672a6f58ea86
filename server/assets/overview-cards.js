// The smaller cards of the overview: throughput, queue, errors, and accounts with hosts.

import { tag } from "./badge.js";
import { FiguredBar } from "./bar.js";
import { foreign, h, keyed, rebuilt, setForeign, setHidden, setText } from "./dom.js";
import { about, ago, brief, count, isNumber, millis, plural, rate, span } from "./format.js";
import { icon } from "./icons.js";
import { AreaChart } from "./spark.js";
import { countsOf } from "./state.js";
import { CATEGORIES, hostOf } from "./words.js";

const CHART_MS = 5 * 60 * 1000;
const GROUPS_SHOWN = 6;
const ERRORS_SHOWN = 5;
const CATEGORIES_SHOWN = 4;

export function card(title, href, ...content) {
  return h(
    "section",
    { class: "card", "aria-label": title },
    h("div", { class: "card-head" }, h("h2", {}, title), href && allLink(title, href)),
    content,
  );
}

export function allLink(title, href) {
  return h("a", { href, class: "small", "aria-label": `${title}: all` }, "All");
}

const figuresOf = (figures) =>
  figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "num" }, value)));

export class Throughput {
  constructor({ store }) {
    this.store = store;
    this.missing = false;
    this.rates = h("dl", { class: "figures" });
    this.chart = new AreaChart({
      label: (points) => `Items per second in the last five minutes, now ${rate(points[points.length - 1]?.y ?? 0)}`,
    });
    this.note = h("p", { class: "quiet small" });
    this.element = card("Throughput", null, this.rates, this.chart.element, this.note);
  }

  draw() {
    const { statistics, points } = this.store.state;
    const rates = statistics?.rates;
    setHidden(this.chart.element, !rates);
    const says = this.missing ? "This server does not tell its throughput." : "";
    setText(this.note, rates ? "Of this server, over the last minute." : says);
    const perMinute = (value) => `${count(Math.round(value))}/min`;
    const figures = rates
      ? [
          ["Items", rate(rates.items_per_second)],
          ["Jobs finished", perMinute(rates.finished_per_minute)],
          ["Failed", perMinute(rates.failed_per_minute)],
          ["Reports", rate(rates.reports_per_second)],
        ]
      : [];
    rebuilt(this.rates, JSON.stringify(figures), () => figuresOf(figures));
    if (rates) this.drawChart(points);
  }

  drawChart(all) {
    const now = Date.now();
    const recent = all.filter((point) => now - point.now <= CHART_MS && isNumber(point.items));
    const points = recent.map((point) => ({ x: point.now, y: point.items }));
    // Told only when it changes: until now it is what it was.
    if (points.length > 0) points.push({ x: now, y: points[points.length - 1].y });
    const from = Math.max(now - CHART_MS, points[0]?.x ?? now);
    this.chart.set({ points, from, to: now, format: rate, fromText: `${about(now - from)} ago`, toText: "now" });
  }
}

export class QueueCard {
  constructor({ store }) {
    this.store = store;
    this.figures = h("dl", { class: "figures" });
    this.note = h("div");
    this.element = card("Queue", "#/queue", this.figures, this.note);
  }

  draw() {
    const { state } = this.store;
    const { counts } = countsOf(state);
    const { queue, slots, crawlers = state.heartbeat?.crawlers } = state.statistics ?? {};
    const waiting = queue?.waiting ?? counts.queued ?? 0;
    const figures = [["Waiting", count(waiting)]];
    if (isNumber(queue?.oldest_ms)) {
      // It goes on waiting, which is nothing to be told of.
      const since = Math.max(0, this.store.now() - (millis(state.statistics.at) ?? Infinity));
      figures.push(["Oldest waits", span(queue.oldest_ms + since)]);
    }
    figures.push(["Crawlers", count(crawlers ?? state.crawlers.size)]);
    if (slots) {
      const used = count(slots.used);
      figures.push(["Slots in use", isNumber(slots.all) ? `${used} of ${count(slots.all)}` : used]);
    }
    figures.push(["Closed gates", count(state.gates.size)]);
    rebuilt(this.figures, JSON.stringify(figures), () => figuresOf(figures));
    const paused = queue?.paused ?? [...state.gates.values()].some((gate) => gate.kind === "queue");
    const idle = crawlers === 0 && waiting > 0;
    rebuilt(this.note, `${paused} ${idle}`, () => [
      paused && warning("The queue is paused: nothing is given out. ", h("a", { href: "#/queue" }, "Resume it")),
      idle && warning("Jobs wait, and no crawler is connected to this server."),
    ]);
  }
}

function warning(...words) {
  return h("p", { class: "note", "data-tone": "warn" }, words);
}

export class ErrorsCard {
  constructor({ store }) {
    this.store = store;
    this.sums = h("div");
    this.rows = h("ul", { class: "rows" });
    this.element = card("Errors", "#/errors", this.sums, this.rows);
  }

  draw() {
    const { state } = this.store;
    const now = this.store.now();
    const told = state.statistics?.errors;
    const categories = Object.entries(told?.by_category ?? {}).filter(([, number]) => number > 0);
    const most = categories.sort((a, b) => b[1] - a[1]).slice(0, CATEGORIES_SHOWN);
    rebuilt(this.sums, JSON.stringify([most, told?.last_hour]), () => [
      isNumber(told?.last_hour) &&
        h("p", { class: "num" }, h("strong", {}, count(told.last_hour)), " in the last hour"),
      most.length > 0 &&
        h(
          "ul",
          { class: "tags" },
          most.map(([name, number]) => h("li", {}, categoryLink(name, number))),
        ),
    ]);
    const recent = state.errors.slice(0, ERRORS_SHOWN);
    rebuilt(this.rows, JSON.stringify([recent.map(({ id }) => id), Math.floor(now / 30000)]), () =>
      recent.length === 0
        ? h("li", { class: "quiet" }, "None is on record.")
        : recent.map((entry) => errorRow(entry, now)),
    );
  }
}

function categoryLink(name, number) {
  const href = `#/errors?category=${encodeURIComponent(name)}`;
  return h("a", { class: "tag", href }, `${CATEGORIES.get(name) ?? name} `, h("span", { class: "num" }, count(number)));
}

const TONES = { low: "plain", medium: "warn" };

function errorRow(entry, now) {
  return h(
    "li",
    { class: "error-brief" },
    tag(entry.severity, TONES[entry.severity] ?? "bad"),
    h("span", { class: "cut" }, foreign(entry.message, { max: 200 })),
    h("span", { class: "quiet small num" }, ago(millis(entry.at), now)),
  );
}

export class GroupsCard {
  constructor({ store }) {
    this.store = store;
    this.rows = h("div", { class: "groups" });
    this.none = h("p", { class: "quiet" }, "Nothing is under way.");
    this.element = card("By account and host", null, this.rows, this.none);
  }

  draw() {
    const { aggregate } = this.store.state;
    const of = (list, kind, field) =>
      (list ?? [])
        .slice(0, GROUPS_SHOWN)
        .map((group) => ({ ...group, kind, value: group[field], key: `${kind} ${group[field]}` }));
    const groups = [
      ...of(aggregate?.accounts, "account", "account_id"),
      ...of(aggregate?.hosts, "host", "gitlab_host"),
    ];
    keyed(
      this.rows,
      groups,
      (group) => group.key,
      (group) => new GroupRow(group),
      (row, group) => row.write(group),
    );
    setHidden(this.none, groups.length > 0);
  }
}

class GroupRow {
  constructor({ kind, value }) {
    this.kind = kind;
    this.name = h("bdi", { dir: "auto" });
    setForeign(this.name, kind === "host" ? hostOf(value) : value, 120);
    this.says = h("span", { class: "quiet small num" });
    this.bar = new FiguredBar();
    const link = h("a", { href: `#/jobs?${kind}=${encodeURIComponent(value)}`, class: "cut" }, this.name);
    const name = h("span", { class: "group-name" }, icon(kind === "host" ? "host" : "user"), link);
    this.element = h("div", { class: "group-row" }, name, this.bar.element, this.says);
  }

  write(group) {
    const label = `Progress of ${this.kind} ${this.name.textContent.slice(0, 80)}`;
    this.bar.set({ share: group.completion, open: group.discovering, label });
    const items = `${brief(group.done)} of ${group.discovering ? "at least " : ""}${brief(group.expected)} items`;
    setText(this.says, `${plural(group.jobs, "job")}, ${items}`);
  }
}
