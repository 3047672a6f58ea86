// What went wrong with a job: its last failure in the crawler's words, and the entries of the error log.

import { get, part } from "./api.js";
import { tag } from "./badge.js";
import { foreign, h, rebuilt, setHidden } from "./dom.js";
import { cleanLines, cut, moment, plural } from "./format.js";

const SHOWN = 20;
const MESSAGE_MAX = 8000;

export class JobErrors {
  constructor({ store, fetchers, id, job }) {
    Object.assign(this, { store, job, id, entries: [] });
    this.fetcher = fetchers.add({
      load: (signal) => get(`jobs/${part(id)}/errors`, { signal, query: { limit: SHOWN } }),
      done: (answer) => this.came(answer.items ?? []),
    });
    this.last = h("div");
    this.list = h("ul", { class: "rows" });
    this.element = h(
      "section",
      { class: "card", "aria-labelledby": "errors-title", hidden: true },
      h("h2", { id: "errors-title" }, "Errors"),
      this.last,
      this.list,
    );
  }

  came(entries) {
    this.entries = entries;
    this.draw(this.job());
  }

  refresh() {
    this.fetcher.refresh();
  }

  changed(changes, { anew }) {
    if (anew || (changes.topics.has("error") && this.store.state.errors.some((entry) => entry.job_id === this.id)))
      this.fetcher.refresh();
    else if (changes.jobs.has(this.id) && this.job().failures !== this.failures) {
      this.failures = this.job().failures;
      this.fetcher.refresh();
    }
  }

  draw(job) {
    const now = this.store.now();
    const { error } = job;
    setHidden(this.element, !error && this.entries.length === 0);
    rebuilt(
      this.last,
      JSON.stringify([error, job.failures, job.status]),
      () =>
        error && [
          h(
            "p",
            {},
            tag(
              job.status === "failed" ? "why it failed" : "the last failure",
              job.status === "failed" ? "bad" : "warn",
            ),
            " ",
            h("strong", {}, foreign(error.error_type, { max: 256 })),
            h(
              "span",
              { class: "quiet" },
              ` · ${plural(job.failures, "failure")}${error.is_recoverable === false ? ", not recoverable" : ""}${error.status_code ? `, status ${error.status_code}` : ""}`,
            ),
          ),
          h(
            "p",
            { class: "wrap error-message", dir: "auto" },
            cut(cleanLines(error.error_message ?? error.message), MESSAGE_MAX),
          ),
          error.recovery_suggestion &&
            h("p", { class: "quiet" }, "The crawler suggests: ", foreign(error.recovery_suggestion, { max: 1000 })),
        ],
    );
    rebuilt(this.list, JSON.stringify(this.entries), () =>
      this.entries
        .slice(0, SHOWN)
        .map((entry) =>
          h(
            "li",
            {},
            h(
              "div",
              {},
              tag(entry.severity, entry.severity === "low" ? "plain" : entry.severity === "medium" ? "warn" : "bad"),
              " ",
              h("code", {}, foreign(entry.code, { max: 100 })),
              h("span", { class: "quiet num" }, ` · ${moment(entry.at, now)}`),
            ),
            h("p", { class: "wrap small" }, foreign(entry.message, { max: 1000 })),
          ),
        ),
    );
  }
}
