// Everything else that is known of a job, whole.

import { get, part } from "./api.js";
import { foreign, h, rebuilt } from "./dom.js";
import { cleanLines, count, cut, moment, span } from "./format.js";

const JSON_MAX = 16384;
const GAP_MS = 3000;

export class JobFacts {
  constructor({ store, fetchers, id, job }) {
    Object.assign(this, { store, job, checkpoint: null });
    this.fetcher = fetchers.add({
      gap: GAP_MS,
      load: (signal) => get(`jobs/${part(id)}/checkpoint`, { signal }),
      done: (checkpoint) => this.kept(checkpoint),
      // Mostly there is none.
      failed: () => this.kept(null),
    });
    this.list = h("dl", { class: "facts" });
    this.result = h("div");
    this.element = h(
      "section",
      { class: "card", "aria-labelledby": "facts-title" },
      h("h2", { id: "facts-title" }, "Details"),
      this.result,
      this.list,
    );
  }

  refresh() {
    if (this.job().attempt > 0) this.fetcher.refresh();
  }

  changed(_, { mine }) {
    if (mine) this.refresh();
  }

  kept(checkpoint) {
    this.checkpoint = checkpoint;
    this.draw(this.job());
  }

  draw(job) {
    rebuilt(
      this.result,
      JSON.stringify(job.result),
      () =>
        job.result && [
          job.result.summary &&
            h("p", { class: "wrap summary", dir: "auto" }, cut(cleanLines(job.result.summary), 8192)),
          Array.isArray(job.result.output_files) &&
            job.result.output_files.length > 0 &&
            h(
              "details",
              {},
              h(
                "summary",
                {},
                `Output files (${count(job.result.output_files_total ?? job.result.output_files.length)})`,
              ),
              h(
                "ul",
                { class: "rows mono" },
                job.result.output_files
                  .slice(0, 200)
                  .map((file) => h("li", { class: "wrap" }, foreign(file, { max: 4096 }))),
              ),
            ),
        ],
    );
    rebuilt(this.list, JSON.stringify([job.updated_at, job.session, job.fence, this.checkpoint]), () =>
      this.facts(job)
        .filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false)
        .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    );
  }

  facts(job) {
    const now = this.store.now();
    const text = (value) =>
      value === null || value === undefined ? null : foreign(value, { max: 4096, className: "wrap" });
    const time = (at) => (at ? h("time", { class: "num", datetime: at }, moment(at, now)) : null);
    const words = (list) =>
      Array.isArray(list) && list.length > 0
        ? h(
            "ul",
            { class: "tags" },
            list.map((word) => h("li", { class: "tag" }, foreign(word, { max: 100 }))),
          )
        : null;
    const { checkpoint } = this;
    return [
      ["Id", h("code", { class: "wrap" }, job.id)],
      ["Name in the web app", job.web_app_job_id === job.id ? null : text(job.web_app_job_id)],
      ["Entity name", text(job.entity_name)],
      ["Namespace path", text(job.namespace_path)],
      ["Entity id", text(job.entity_id)],
      ["Account", text(job.account_id)],
      ["Host", text(job.gitlab_host)],
      ["Command", text(job.command)],
      ["Provider", text(job.provider)],
      ["User", text(job.user_id)],
      ["Submitted by", text(job.created_by_user_id)],
      ["Crawler", job.session && h("a", { href: `#/crawlers?id=${part(job.session)}` }, text(job.session))],
      ["Wish", job.want && `${job.want.want}, done without the crawler at ${moment(job.want.until, now)}`],
      [
        "Paused because",
        job.pause_reason && (job.pause_reason === "operator" ? "somebody wished so" : text(job.pause_reason)),
      ],
      ["Priority", h("span", { class: "num" }, String(job.priority))],
      ["Labels", words(job.labels)],
      ["Tags", words(job.tags)],
      [
        "Attempts, failures, misses",
        h("span", { class: "num" }, `${count(job.attempt)}, ${count(job.failures)}, ${count(job.misses)}`),
      ],
      ["Goes on where it stopped", job.resume ? "yes" : null],
      ["Created", time(job.created_at)],
      ["Not before", time(job.run_at)],
      ["First begun", time(job.started_at)],
      ["May run until", job.state === "running" ? time(job.deadline) : null],
      ["Ended", time(job.finished_at)],
      ["Its own limits", ownLimits(job)],
      [
        "Metadata",
        job.metadata &&
          h("pre", { class: "wrap", tabindex: "0" }, cut(cleanLines(JSON.stringify(job.metadata, null, 2)), JSON_MAX)),
      ],
      [
        "Checkpoint",
        checkpoint &&
          h("pre", { class: "wrap", tabindex: "0" }, cut(cleanLines(JSON.stringify(checkpoint, null, 2)), JSON_MAX)),
      ],
    ];
  }
}

function ownLimits(job) {
  const parts = [];
  if (job.job_timeout_ms !== null && job.job_timeout_ms !== undefined) parts.push(`time ${span(job.job_timeout_ms)}`);
  if (job.retry_attempts !== null && job.retry_attempts !== undefined)
    parts.push(`${count(job.retry_attempts)} retries`);
  if (job.retry_delay_ms !== null && job.retry_delay_ms !== undefined)
    parts.push(`retry delay ${span(job.retry_delay_ms)}`);
  return parts.join(", ");
}
