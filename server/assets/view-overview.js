// The whole at a glance: how far all is, how fast it goes, what waits, what went wrong, and what runs right now.

import { get } from "./api.js";
import { FiguredBar } from "./bar.js";
import { h, keyed, setAttribute, setHidden, setText } from "./dom.js";
import { Fetchers } from "./fetcher.js";
import { brief, count, isNumber, percent, plural } from "./format.js";
import { icon } from "./icons.js";
import { JobRow } from "./jobs-row.js";
import { lineOf } from "./log-line.js";
import { allLink, card, ErrorsCard, GroupsCard, QueueCard, Throughput } from "./overview-cards.js";
import { addErrors, addJobs, countsOf } from "./state.js";

const RUNNING_SHOWN = 8;
// Running jobs that are looked at for the worst of them.
const RUNNING_MAX = 200;
const LOG_SHOWN = 8;

const TILES = [
  ["running", "Running", "active"],
  ["queued", "Queued", "waiting"],
  ["delayed", "Delayed", "waiting"],
  ["paused", "Paused", "paused"],
  ["completed", "Completed", "completed"],
  ["failed", "Failed", "failed"],
  ["cancelled", "Cancelled", "cancelled"],
];

// Trouble comes first.
const WORST = { stalled: 0, lost: 1, waiting: 2, quiet: 3 };

export default function overview(main, context) {
  return new Overview(main, context);
}

class Overview {
  constructor(main, { store }) {
    this.title = "Overview";
    this.store = store;
    this.fetchers = new Fetchers();
    this.fetch();
    this.cards = [
      new Throughput({ store }),
      new ErrorsCard({ store }),
      new QueueCard({ store }),
      new GroupsCard({ store }),
    ];
    this.build(main);
    this.stop = [store.listen((changes) => this.changed(changes)), store.everySecond(() => this.tick())];
    this.refresh();
    this.draw();
  }

  fetch() {
    const { store } = this;
    this.errors = this.fetchers.add({
      load: (signal) => get("errors", { signal, query: { limit: 20 } }),
      done: (answer) => store.change((state) => addErrors(state, answer.items ?? [])),
    });
    // Running jobs may be older than the newest that the stream begins with.
    this.running = this.fetchers.add({
      load: (signal) => get("jobs", { signal, query: { status: "running", limit: 50 } }),
      done: (answer) => store.change((state) => addJobs(state, answer.items ?? [])),
    });
    this.statistics = this.fetchers.add({
      load: (signal) => get("statistics", { signal }),
      done: (answer) => store.event("statistics", answer, Date.now()),
      failed: (problem) => {
        this.cards[0].missing = problem.unavailable;
        this.draw();
      },
    });
  }

  close() {
    for (const stop of this.stop) stop();
    this.fetchers.close();
  }

  refresh() {
    this.errors.refresh();
    this.running.refresh();
    if (!this.store.state.statistics) this.statistics.refresh();
  }

  build(main) {
    this.whole = new FiguredBar({ label: "Progress of all trees that are not over", size: "large" });
    this.wholeSays = h("p", { class: "quiet" });
    this.tiles = new Map(TILES.map((tile) => [tile[0], tileOf(tile)]));
    this.now = h("div", { class: "jobs-now" });
    this.idle = h("p", { class: "quiet pad" }, "Nothing runs.");
    this.logRows = h("ol", { class: "log compact" });
    this.noLog = h("p", { class: "quiet" }, "Nothing has happened since this page was opened.");
    this.start = startCard();
    const [throughput, errors, queue, groups] = this.cards.map(({ element }) => element);
    const head = h(
      "div",
      { class: "card-head" },
      h("h2", {}, "Running now"),
      allLink("Running now", "#/jobs?state=active"),
    );
    const running = h("section", { class: "card flush", "aria-label": "Running now" }, head, this.now, this.idle);
    const log = card("What happens", "#/log", this.logRows, this.noLog);
    const hero = card("All trees that are not over", null, this.whole.element, this.wholeSays);
    hero.classList.add("hero");
    main.append(
      h("h1", { class: "sr" }, "Overview"),
      this.start,
      hero,
      h(
        "div",
        { class: "tiles" },
        [...this.tiles.values()].map(({ element }) => element),
      ),
      h(
        "div",
        { class: "overview-grid" },
        h("div", { class: "column" }, running, throughput, errors),
        h("div", { class: "column" }, queue, groups, log),
      ),
    );
  }

  changed(changes) {
    if (changes.topics.has("snapshot")) this.refresh();
    this.draw();
  }

  tick() {
    for (const piece of this.cards) piece.draw();
  }

  draw() {
    const { state } = this.store;
    const { counts, all } = countsOf(state);
    setHidden(this.start, !state.known || all > 0);
    for (const [name, { figure, element }] of this.tiles) {
      const number = (counts[name] ?? 0) + (name === "running" ? (counts.assigned ?? 0) : 0);
      setText(figure, state.known ? count(number) : "–");
      setAttribute(element, "data-some", number > 0);
    }
    this.drawWhole();
    for (const piece of this.cards) piece.draw();
    this.drawRunning();
    this.drawLog();
  }

  drawWhole() {
    const { aggregate, known } = this.store.state;
    const fleet = aggregate?.fleet;
    if (!(fleet?.trees > 0)) {
      this.whole.set({ share: null, text: "nothing is under way" });
      setText(this.wholeSays, known ? "No tree of jobs is open that has reported." : "Waiting for the server.");
      return;
    }
    const word = aggregate.overall_completion;
    const says = `${percent(fleet.completion)}${fleet.discovering ? ", still discovering" : ""}`;
    this.whole.set({ share: fleet.completion, word, open: Boolean(fleet.discovering), text: says });
    const active = plural(aggregate.active_jobs, "active job");
    const parts = [
      `${plural(fleet.trees, "tree")} with ${plural(fleet.jobs, "job")}, ${count(fleet.jobs_reported)} of them have reported`,
      `${brief(fleet.done)} of ${fleet.discovering ? "at least " : ""}${brief(fleet.expected)} items`,
      fleet.expected_silent > 0 && `about ${brief(fleet.expected_silent)} more in jobs that have not reported`,
      fleet.discovering && "still discovering: the total may grow",
      isNumber(word) && `${active}; their crawlers say ${percent(word)} on average, marked on the bar`,
    ];
    setText(this.wholeSays, parts.filter(Boolean).join(" · "));
  }

  drawRunning() {
    const { state } = this.store;
    const running = [];
    for (const id of state.order) {
      const job = state.jobs.get(id);
      if (job.state === "running") running.push(job);
      if (running.length >= RUNNING_MAX) break;
    }
    const rank = (job) => WORST[job.progress?.activity] ?? 9;
    const shown = running.sort((a, b) => rank(a) - rank(b)).slice(0, RUNNING_SHOWN);
    const now = this.store.now();
    keyed(
      this.now,
      shown,
      (job) => job.id,
      plainRow,
      (row, job) => row.write(job, now, false),
    );
    setHidden(this.idle, shown.length > 0);
  }

  drawLog() {
    const last = this.store.state.log.slice(-LOG_SHOWN).reverse();
    keyed(
      this.logRows,
      last,
      (entry) => entry.number,
      (entry) => ({ element: lineOf(entry) }),
    );
    setHidden(this.noLog, last.length > 0);
  }
}

function tileOf([state, label, group]) {
  const figure = h("span", { class: "tile-figure num" }, "–");
  const name = h("span", { class: "tile-label" }, icon(state), label);
  const element = h("a", { class: "tile", href: `#/jobs?state=${group}`, "data-tone": state }, name, figure);
  return { figure, element };
}

// For those who see the page for the first time.
function startCard() {
  const submit = h("a", { class: "button primary", href: "#/submit" }, "Submit a job");
  const command = h("pre", { tabindex: "0" }, "cargo run --release --example git_crawler -- --root .");
  return h(
    "section",
    { class: "card start", "aria-label": "How to begin", hidden: true },
    h("h2", {}, "Nothing here yet. Two steps to a first crawl:"),
    h(
      "ol",
      { class: "steps" },
      h("li", {}, h("strong", {}, "Submit a job."), " It waits here until a crawler takes it. ", submit),
      h(
        "li",
        {},
        h("strong", {}, "Start a crawler."),
        " The example crawls git repositories on this machine:",
        command,
      ),
    ),
  );
}

// The row of the list, outside of a table.
function plainRow() {
  const row = new JobRow();
  for (const element of [row.element, ...row.element.querySelectorAll("[role=cell]")]) element.removeAttribute("role");
  return row;
}
