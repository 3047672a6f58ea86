// One job in a list: its name, state, bar, and what is left of it. Written again and again; only what differs is touched.

import { Bar } from "./bar.js";
import { StateBadge } from "./badge.js";
import { h, setAttribute, setForeign, setHidden, setText } from "./dom.js";
import { ago, brief, clean, clock, cut, percent, span } from "./format.js";
import { completionOf, ENDED, hostOf, nameOf, remaining, stateOf, trouble, typeNoun } from "./words.js";

export class JobRow {
  constructor() {
    this.link = h("a", { class: "job-name cut", href: "#/jobs" }, (this.name = h("bdi", { dir: "auto" })));
    this.type = h("span");
    this.account = h("bdi", { dir: "auto" });
    this.host = h("bdi", { dir: "auto" });
    this.badge = new StateBadge();
    this.trouble = h("span", { class: "tag", hidden: true });
    this.bar = new Bar();
    this.figure = h("span", { class: "num bar-figure", "aria-hidden": "true" });
    this.items = h("span", { class: "quiet small num cut" });
    this.left = h("span", { class: "num", role: "cell" });
    this.changed = h("span", { class: "quiet num", role: "cell" });
    this.element = h(
      "div",
      { class: "job-row", role: "row" },
      h(
        "div",
        { role: "cell", class: "job-what" },
        this.link,
        h("div", { class: "quiet small cut" }, this.type, " · ", this.account, " · ", this.host),
      ),
      h("div", { role: "cell", class: "job-state" }, this.badge.element, this.trouble),
      h(
        "div",
        { role: "cell", class: "job-bar" },
        h("div", { class: "bar-line" }, this.bar.element, this.figure),
        this.items,
      ),
      this.left,
      this.changed,
    );
    this.left.className = "job-left num cut";
    this.changed.className = "job-changed quiet num";
  }

  write(job, now, chosen) {
    this.id = job.id;
    this.at = job.updated_at;
    setAttribute(this.link, "href", `#/jobs/${encodeURIComponent(job.id)}`);
    setForeign(this.name, nameOf(job));
    setText(this.type, job.parent_id ? typeNoun(job.job_type) : `${typeNoun(job.job_type)}, submitted`);
    setForeign(this.account, job.account_id, 80);
    setForeign(this.host, hostOf(job.gitlab_host), 80);
    this.badge.setJob(job);
    const wrong = trouble(job);
    setHidden(this.trouble, !wrong);
    if (wrong) {
      setText(this.trouble, wrong.word);
      setAttribute(this.trouble, "data-tone", wrong.kind);
      setAttribute(this.trouble, "title", wrong.says);
    }
    const completion = completionOf(job);
    this.bar.setJob(job);
    setText(this.figure, completion ? percent(completion.share) : "");
    setText(this.items, itemsWord(job, completion));
    const left = leftWord(job);
    setText(this.left, left.short);
    setAttribute(this.left, "title", left.detail || null);
    setAttribute(this.element, "data-state", stateOf(job));
    setAttribute(this.element, "data-chosen", chosen);
    this.tick(now);
  }

  tick(now) {
    setText(this.changed, ago(this.at, now));
  }
}

function itemsWord(job, completion) {
  const { progress } = job;
  if (job.state === "delayed" && job.run_at) return `not before ${clock(job.run_at)}`;
  if (job.state === "paused") return job.pause_reason === "quarantined" ? "never begun" : "by somebody";
  if (job.status === "failed") return job.error?.error_type ? `failed: ${cut(clean(job.error.error_type), 80)}` : "";
  if (!progress) return job.state === "running" ? "nothing reported yet" : "";
  if (completion?.whose === "crawler") return "says the crawler";
  const more = progress.discovering && job.state === "running" ? ", still discovering" : "";
  const of =
    progress.total?.kind === "known" || progress.total?.kind === "estimate"
      ? ` of ${progress.total.kind === "estimate" ? "about " : ""}${brief(progress.total.items)}`
      : "";
  return `${brief(progress.done)}${of} ${progress.done === 1 && of === "" ? "item" : "items"}${more}`;
}

function leftWord(job) {
  if (job.status === "completed" && job.started_at && job.finished_at)
    return { short: `took ${span(Date.parse(job.finished_at) - Date.parse(job.started_at))}` };
  if (ENDED.has(job.status) || job.state !== "running") return { short: "" };
  if (!job.progress) return { short: "" };
  const left = remaining(job.progress.eta);
  return { short: left.short, detail: left.detail || left.text };
}
