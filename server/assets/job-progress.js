// How far a job is: our bar, the crawler's word beside it, what the total is worth, when it ends, how fast it goes.

import { get, part } from "./api.js";
import { Bar } from "./bar.js";
import { tag } from "./badge.js";
import { foreign, h, rebuilt, setHidden, setText } from "./dom.js";
import { ago, clock, count, isNumber, moment, percent, plural, rate, span } from "./format.js";
import { AreaChart } from "./spark.js";
import {
  barText,
  completionOf,
  entityName,
  isOpenEnded,
  ISSUES,
  itemsOf,
  remaining,
  stateOf,
  TOTAL_KINDS,
  trouble,
} from "./words.js";

const GAP_MS = 2000;

export class JobProgress {
  // `onDetail(detail)` is told of what is fetched.
  constructor({ store, fetchers, id, job, onDetail }) {
    this.store = store;
    this.job = job;
    this.detail = null;
    this.fetcher = fetchers.add({
      gap: GAP_MS,
      load: (signal) => get(`jobs/${part(id)}/progress`, { signal, query: { detail: "full" } }),
      done: (detail) => {
        this.detail = detail;
        this.draw(this.job(), this.store.now());
        onDetail(detail);
      },
    });
    this.build();
  }

  build() {
    this.bar = new Bar({ label: "Progress of this job", size: "large" });
    this.figure = h("span", { class: "big num" });
    this.says = h("p", { class: "progress-says" });
    this.word = h("p", { class: "quiet small" });
    this.trouble = h("p", { class: "note", hidden: true });
    this.facts = h("dl", { class: "figures" });
    this.marks = h("ol", { class: "marks", "aria-label": "Milestones" });
    this.chart = new AreaChart({
      label: (points) =>
        points.length > 1
          ? `Completion over time, from ${percent(points[0].y)} to ${percent(points[points.length - 1].y)}`
          : "Completion over time",
    });
    this.course = h(
      "div",
      { class: "course", hidden: true },
      h("h3", {}, "Course of this attempt"),
      this.chart.element,
    );
    this.issues = h("div", { class: "issues" });
    this.element = h(
      "section",
      { class: "card", "aria-labelledby": "progress-title" },
      h("div", { class: "progress-top" }, h("h2", { id: "progress-title" }, "Progress"), this.figure),
      this.bar.element,
      this.says,
      this.word,
      this.trouble,
      this.marks,
      this.facts,
      this.course,
      this.issues,
    );
  }

  refresh() {
    this.fetcher.refresh();
  }

  changed(changes, { mine }) {
    if (mine) this.fetcher.refresh();
  }

  tick(now) {
    const job = this.job();
    if (job.state === "running") this.drawFigures(job, now);
  }

  draw(job, now) {
    const progress = job.progress ?? (this.detail?.attempt === job.attempt ? this.detail : null);
    const completion = completionOf({ ...job, progress });
    const crawlers = progress && isNumber(progress.overall_completion) ? progress.overall_completion : null;
    this.bar.set({
      share: completion?.share ?? null,
      word: completion?.whose === "ours" && job.state === "running" ? crawlers : null,
      open: isOpenEnded(job),
      tone: stateOf(job),
      text: barText({ ...job, progress }),
    });
    setText(this.figure, completion ? percent(completion.share) : "–");
    setText(this.says, saysOf(job, progress));
    setText(this.word, wordOf(job, completion, crawlers));
    const wrong = trouble(job);
    setHidden(this.trouble, !wrong);
    if (wrong) {
      this.trouble.dataset.tone = wrong.kind;
      setText(this.trouble, `${wrong.word[0].toUpperCase()}${wrong.word.slice(1)}: ${wrong.says}.`);
    }
    this.drawFigures(job, now);
    this.drawMarks();
    this.drawCourse(now);
    this.drawIssues(now);
  }

  drawFigures(job, now) {
    const progress = job.progress ?? this.detail;
    const full = this.detail;
    const figures = [];
    const add = (name, value, title = null) => figures.push([name, value, title]);
    if (job.state === "running" && progress?.updated_at) {
      const left = remaining(progress.eta);
      add("Time left", left.text, left.detail || null);
      if (left.known) add("Ends about", `${clock(progress.eta.low_at)} to ${clock(progress.eta.high_at)}`, left.detail);
      if (left.known) add("Confidence", progress.eta.confidence);
      if (isNumber(full?.rates?.current)) add("Speed now", rate(full.rates.current), `Peak ${rate(full.rates.peak)}`);
      add("Activity", progress.activity ?? "–");
      add(
        "Last step forward",
        ago(progress.clocks?.work_at, now),
        "A counter rose, a checkpoint was kept, or something was discovered",
      );
      add("Last word about it", ago(progress.clocks?.worker_at, now));
    }
    if (isNumber(full?.rates?.overall) && full.updated_at) add("Mean speed", rate(full.rates.overall));
    if (isNumber(full?.worked_ms) && full.updated_at)
      add("Worked", span(full.worked_ms), full.waited_ms > 0 ? `and waited ${span(full.waited_ms)}` : null);
    if (isNumber(full?.efficiency))
      add("Efficiency", percent(full.efficiency), "Share of the time spent working in which items moved");
    if (isNumber(progress?.estimated_time_remaining) && job.state === "running")
      add("The crawler guesses", `${span(progress.estimated_time_remaining)} left`);
    rebuilt(this.facts, JSON.stringify(figures), () =>
      figures.map(([name, value, title]) => h("div", { title }, h("dt", {}, name), h("dd", { class: "num" }, value))),
    );
  }

  drawMarks() {
    const passed = (this.detail?.milestones ?? []).filter((mark) => !mark.entity);
    setHidden(this.marks, passed.length === 0);
    rebuilt(this.marks, JSON.stringify(passed), () =>
      passed.map((mark) =>
        h(
          "li",
          {
            class: "tag",
            "data-tone": "good",
            title: `Passed ${moment(mark.at, this.store.now())} in attempt ${mark.attempt}`,
          },
          `${count(mark.percent)} %`,
          h("span", { class: "quiet num" }, ` ${clock(mark.at)}`),
        ),
      ),
    );
  }

  drawCourse(now) {
    const points = (this.detail?.history ?? [])
      .map((point) => ({ x: Date.parse(point.at), y: point.completion }))
      .filter(({ x, y }) => Number.isFinite(x) && isNumber(y));
    setHidden(this.course, points.length < 2);
    if (points.length < 2) return;
    const [from, to] = [points[0].x, points[points.length - 1].x];
    this.chart.set({ points, from, to, most: 1, format: percent, fromText: moment(from, now), toText: clock(to) });
  }

  drawIssues(now) {
    const issues = this.detail?.issues ?? [];
    rebuilt(this.issues, JSON.stringify(issues), () =>
      issues.length === 0
        ? []
        : [
            h("h3", {}, "What somebody should look at"),
            h(
              "ul",
              { class: "rows" },
              issues.map((issue) =>
                h(
                  "li",
                  {},
                  tag(String(issue.kind).replaceAll("_", " "), "warn"),
                  " ",
                  ISSUES.get(issue.kind) ?? "",
                  issue.entity && [" in ", foreign(entityName(issue.entity))],
                  h(
                    "span",
                    { class: "quiet num" },
                    ` · ${plural(issue.times, "time")}, last ${moment(issue.last_at, now)}`,
                  ),
                ),
              ),
            ),
          ],
    );
  }
}

function saysOf(job, progress) {
  if (!progress?.updated_at)
    return job.state === "running"
      ? "It runs; nothing was reported yet."
      : job.attempt === 0
        ? "It has not begun."
        : "Nothing was reported.";
  const phase =
    job.state === "running" && progress.state ? `${progress.state[0].toUpperCase()}${progress.state.slice(1)}: ` : "";
  return `${phase}${itemsOf(progress.done, progress.total)}.${progress.discovering && job.state === "running" ? " Still discovering: the total may grow." : ""}`;
}

function wordOf(job, completion, crawlers) {
  if (!completion || job.state !== "running") return "";
  const total = TOTAL_KINDS[job.progress?.total?.kind];
  const kind = total ? `The total is ${total}.` : "";
  if (completion.whose === "crawler") return "By the crawler's own word; it has reported no counts.";
  return crawlers === null ? kind : `${kind} The crawler itself says ${percent(crawlers)}, marked on the bar.`;
}
