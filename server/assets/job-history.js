// What happened to a job: its attempts in short, and its timeline in full.

import { get, part } from "./api.js";
import { stateBadge, tag } from "./badge.js";
import { foreign, h, rebuilt, setHidden } from "./dom.js";
import { attemptsOf, happened } from "./attempts.js";
import { count, moment, percent, span } from "./format.js";
import { entityName, ISSUES } from "./words.js";

const GAP_MS = 2000;
const SHOWN = 40;

export class JobHistory {
  constructor({ store, fetchers, id, job }) {
    Object.assign(this, { store, job, items: [], all: false, reports: false });
    this.fetcher = fetchers.add({
      gap: GAP_MS,
      load: (signal) => get(`jobs/${part(id)}/timeline`, { signal }),
      done: (answer) => {
        this.items = Array.isArray(answer.items) ? answer.items : [];
        this.more = answer.more_events;
        this.draw();
      },
    });
    this.attemptRows = h("ol", { class: "attempts" });
    this.attempts = h(
      "section",
      { class: "card", "aria-labelledby": "attempts-title", hidden: true },
      h("h2", { id: "attempts-title" }, "Attempts"),
      this.attemptRows,
    );
    this.rows = h("ol", { class: "timeline" });
    this.foot = h("div", { class: "card-foot" });
    const box = h("input", { type: "checkbox", id: "timeline-reports", on: { change: () => this.flip(box.checked) } });
    this.element = h(
      "section",
      { class: "card", "aria-labelledby": "timeline-title" },
      h(
        "div",
        { class: "card-head" },
        h("h2", { id: "timeline-title" }, "Timeline"),
        h("label", { class: "small check" }, box, h("span", {}, "with reports")),
      ),
      this.rows,
      this.foot,
    );
  }

  flip(reports) {
    this.reports = reports;
    this.draw();
  }

  refresh() {
    this.fetcher.refresh();
  }

  changed(_, { mine }) {
    if (mine) this.fetcher.refresh();
  }

  draw() {
    const now = this.store.now();
    const attempts = attemptsOf(this.items);
    setHidden(this.attempts, attempts.length === 0);
    rebuilt(this.attemptRows, JSON.stringify([attempts, this.job().state]), () =>
      attempts.map((attempt) => this.attemptRow(attempt, now)).reverse(),
    );
    const shown = this.items.filter((item) => this.reports || item.type !== "progress").reverse();
    const some = this.all ? shown : shown.slice(0, SHOWN);
    rebuilt(this.rows, JSON.stringify([some, this.reports]), () => some.map((item) => rowOf(item, now)));
    rebuilt(this.foot, `${shown.length} ${some.length} ${this.more}`, () => [
      some.length < shown.length &&
        h(
          "button",
          { type: "button", class: "button small", on: { click: () => this.showAll() } },
          `Show all ${count(shown.length)}`,
        ),
      this.more &&
        h("p", { class: "quiet small" }, "There are more events than are shown here; these are the oldest 1,000."),
    ]);
  }

  showAll() {
    this.all = true;
    this.draw();
  }

  attemptRow(attempt, now) {
    const took = attempt.began !== null && attempt.ended !== null ? span(attempt.ended - attempt.began) : null;
    return h(
      "li",
      {},
      h(
        "div",
        { class: "attempt-top" },
        h("strong", {}, `Attempt ${count(attempt.number)}`),
        stateBadge(attempt.ended === null ? "running" : attempt.end),
      ),
      h(
        "p",
        { class: "quiet small num" },
        `Begun ${moment(attempt.began, now)}`,
        took && `, took ${took}`,
        attempt.how && ` · ${attempt.how}`,
      ),
      attempt.session && h("p", { class: "quiet small cut" }, "by ", foreign(attempt.session, { max: 120 })),
    );
  }
}

function rowOf(item, now) {
  const line = (kind, ...what) =>
    h(
      "li",
      { "data-kind": kind },
      h("time", { class: "num quiet", datetime: item.at }, moment(item.at, now)),
      h("div", {}, what),
    );
  switch (item.type) {
    case "event":
      return line(
        `state-${item.state}`,
        h("span", { class: "timeline-what" }, happened(item.arrows)),
        h("span", { class: "quiet small" }, ` → ${item.state}`),
        item.session && h("div", { class: "quiet small cut" }, foreign(item.session, { max: 120 })),
      );
    case "milestone":
      return line(
        "milestone",
        tag(`${count(item.percent)} %`, "good"),
        item.entity ? [" of ", foreign(entityName(item.entity), { max: 120 })] : " of the whole",
      );
    case "issue":
      return line("issue", tag(String(item.kind).replaceAll("_", " "), "warn"), ` ${ISSUES.get(item.kind) ?? ""}`);
    case "progress":
      return line(
        "progress",
        h(
          "span",
          { class: "num" },
          `${percent(item.completion)}, ${count(item.done)} of ${count(item.expected)} expected`,
        ),
      );
    default:
      return line("other", foreign(item.type, { max: 60 }));
  }
}
