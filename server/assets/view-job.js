// One job: how far it is, what holds it back, its work, its tree, its history, and what can be done with it.

import { allowedActs, perform } from "./acts.js";
import { get, part } from "./api.js";
import { StateBadge } from "./badge.js";
import { foreign, h, rebuilt, setForeign, setHidden } from "./dom.js";
import { Fetchers } from "./fetcher.js";
import { icon } from "./icons.js";
import { JobEntities } from "./job-entities.js";
import { JobErrors } from "./job-errors.js";
import { JobFacts } from "./job-facts.js";
import { JobHistory } from "./job-history.js";
import { JobProgress } from "./job-progress.js";
import { JobTree } from "./job-tree.js";
import { JobWait } from "./job-wait.js";
import { addJobs } from "./state.js";
import { clean, cut } from "./format.js";
import { nameOf, typeLabel } from "./words.js";

const GAP_MS = 2000;

export default function job(main, context) {
  return new JobView(main, context);
}

class JobView {
  constructor(main, { store, route }) {
    this.title = "Job";
    this.store = store;
    this.wanted = route.id;
    this.main = main;
    this.fetchers = new Fetchers();
    this.id = null;
    this.gone = false;
    this.main.append(h("p", { class: "quiet", role: "status" }, "Loading…"));
    this.load = this.fetchers.add({
      gap: GAP_MS,
      load: (signal) => get(`jobs/${part(this.wanted)}`, { signal }),
      done: (answer) => this.came(answer),
      failed: (problem) => this.failed(problem),
    });
    this.stop = [store.listen((changes) => this.changed(changes)), store.everySecond((now) => this.tick(now))];
    const held = store.state.jobs.get(this.wanted);
    if (held) this.came(held);
    else this.load.refresh();
  }

  close() {
    for (const stop of this.stop) stop();
    this.fetchers.close();
  }

  get job() {
    return this.store.state.jobs.get(this.id) ?? this.last;
  }

  came(job) {
    const first = this.id === null;
    this.id = job.id;
    this.last = job;
    this.store.change((state) => addJobs(state, [job]));
    if (first) this.build();
    this.draw();
    if (first) for (const piece of this.pieces) piece.refresh?.();
  }

  failed(problem) {
    if (this.id !== null) return;
    this.main.replaceChildren(
      h(
        "div",
        { class: "empty" },
        h("h1", {}, problem.status === 404 ? "There is no such job" : "The job could not be loaded"),
        h("p", { class: "wrap" }, foreign(this.wanted)),
        h("p", {}, problem.message),
        h(
          "p",
          {},
          h(
            "button",
            { type: "button", class: "button", on: { click: () => this.load.refresh({ soon: true }) } },
            "Try again",
          ),
          " ",
          h("a", { class: "button", href: "#/jobs" }, "To the list"),
        ),
      ),
    );
  }

  build() {
    const context = {
      store: this.store,
      fetchers: this.fetchers,
      id: this.id,
      job: () => this.job,
      onDetail: (detail) => this.tree.whole(detail.tree),
    };
    this.pieces = [
      (this.wait = new JobWait(context)),
      (this.progress = new JobProgress(context)),
      (this.entities = new JobEntities(context)),
      (this.tree = new JobTree(context)),
      (this.history = new JobHistory(context)),
      (this.errors = new JobErrors(context)),
      (this.facts = new JobFacts(context)),
    ];
    this.badge = new StateBadge();
    this.name = h("bdi", { dir: "auto" });
    this.under = h("p", { class: "quiet" });
    this.way = h("nav", { class: "way small", "aria-label": "Where this job belongs" });
    this.acts = h("div", { class: "acts", role: "group", "aria-label": "What can be done" });
    this.note = h(
      "p",
      { class: "note bad", role: "status", hidden: true },
      "This job was deleted. What is shown is its last state.",
    );
    this.main.replaceChildren(
      this.way,
      h(
        "div",
        { class: "job-head" },
        h("div", { class: "job-title" }, h("h1", { class: "clamp" }, this.name), this.badge.element),
        this.acts,
      ),
      this.under,
      this.note,
      h(
        "div",
        { class: "job-grid" },
        h(
          "div",
          { class: "column" },
          this.wait.element,
          this.errors.element,
          this.progress.element,
          this.entities.element,
          this.tree.element,
          this.history.element,
        ),
        h("div", { class: "column" }, this.history.attempts, this.facts.element),
      ),
    );
  }

  draw() {
    const { job } = this;
    if (!job) return;
    setForeign(this.name, nameOf(job), 600);
    this.badge.setJob(job);
    const title = `${cut(clean(nameOf(job)), 60)}`;
    if (this.title !== title) {
      this.title = title;
      document.title = `${title} · Crawlwire`;
    }
    rebuilt(this.under, job.updated_at, () => [
      typeLabel(job.job_type),
      " on ",
      foreign(job.gitlab_host, { max: 120 }),
      " for ",
      h("a", { href: `#/jobs?account=${part(job.account_id)}` }, foreign(job.account_id, { max: 120 })),
    ]);
    rebuilt(this.way, `${job.root_id} ${job.parent_id}`, () => this.wayOf(job));
    const acts = allowedActs(job);
    rebuilt(this.acts, acts.map(({ name }) => name).join(), () =>
      acts.map((act) =>
        h(
          "button",
          {
            type: "button",
            class: `button ${act.primary ? "primary" : ""} ${act.danger ? "danger-quiet" : ""}`,
            "data-act": act.name,
            on: { click: () => this.perform(act) },
          },
          act.label,
        ),
      ),
    );
    setHidden(this.note, !this.gone);
    for (const piece of this.pieces) piece.draw(job, this.store.now());
  }

  wayOf(job) {
    const step = (id, word) => {
      const known = this.store.state.jobs.get(id);
      return h("a", { href: `#/jobs/${part(id)}`, class: "cut" }, known ? foreign(nameOf(known), { max: 60 }) : word);
    };
    return [
      h("a", { href: "#/jobs" }, icon("back"), "Jobs"),
      job.root_id !== job.id && [h("span", { "aria-hidden": "true" }, "/"), step(job.root_id, "the submitted job")],
      job.parent_id &&
        job.parent_id !== job.root_id && [
          h("span", { "aria-hidden": "true" }, "/"),
          step(job.parent_id, "the job that found it"),
        ],
    ];
  }

  async perform(act) {
    const answer = await perform(act, this.job);
    if (answer?.id === this.id) this.came(answer);
    else if (answer && act.name !== "delete") this.load.refresh({ soon: true });
    if (answer && act.name === "delete") {
      this.store.event("deleted", { job_id: this.id }, Date.now());
      window.location.hash = "#/jobs";
    }
  }

  changed(changes) {
    if (this.id === null) return;
    const mine = changes.jobs.has(this.id);
    if (mine) {
      const held = this.store.state.jobs.get(this.id);
      this.gone = !held && changes.topics.has("deleted");
      if (held) this.last = held;
    }
    const anew = changes.topics.has("snapshot");
    // Sums of its tree change with the jobs below it.
    if (this.below(changes)) this.load.refresh();
    // A snapshot has the newest jobs; this one may not be among them.
    if (anew && !this.store.state.jobs.has(this.id)) this.load.refresh();
    if (mine || anew) this.draw();
    for (const piece of this.pieces) piece.changed(changes, { mine: mine || anew, anew });
  }

  below(changes) {
    const { jobs } = this.store.state;
    for (const id of changes.jobs) {
      const job = jobs.get(id);
      if (job && id !== this.id && (job.parent_id === this.id || job.root_id === this.id) && job.status !== "running")
        return true;
    }
    return false;
  }

  tick(now) {
    if (this.id === null) return;
    for (const piece of this.pieces) piece.tick?.(now);
  }
}
