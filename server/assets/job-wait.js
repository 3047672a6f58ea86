// Why a job does not move, in the server's words. Asked again when something happens that may have changed the answer.

import { get, part } from "./api.js";
import { foreign, h, rebuilt, setHidden } from "./dom.js";
import { moment, plural } from "./format.js";
import { ENDED } from "./words.js";

// What it waits for may be any job, crawler or gate.
const GAP_MS = 2000;

export class JobWait {
  constructor({ store, fetchers, id, job }) {
    this.store = store;
    this.job = job;
    this.element = h("section", { class: "card wait", "aria-label": "Why it does not move", hidden: true });
    this.answer = null;
    this.fetcher = fetchers.add({
      gap: GAP_MS,
      load: (signal) => get(`jobs/${part(id)}/explain`, { signal }),
      done: (answer) => {
        this.answer = answer;
        this.draw(this.job());
      },
    });
  }

  get waits() {
    const { state, status } = this.job();
    return state !== "running" && !ENDED.has(status);
  }

  refresh() {
    if (this.waits) this.fetcher.refresh();
  }

  changed(changes, { mine }) {
    if (
      mine ||
      changes.jobs.size > 0 ||
      ["crawlers", "gates", "connections"].some((topic) => changes.topics.has(topic))
    )
      this.refresh();
  }

  draw(job) {
    const reason = this.waits && this.answer?.state === job.state ? this.answer.reason : null;
    setHidden(this.element, !reason);
    if (!reason) return;
    const now = this.store.now();
    rebuilt(this.element, JSON.stringify(reason), () => [
      h("h2", {}, "Why it does not move"),
      h("p", { class: "wait-says" }, foreign(reason.detail, { max: 1000 })),
      reason.cleared_by && h("p", { class: "quiet" }, "What would end it: ", foreign(reason.cleared_by, { max: 500 })),
      reason.until && h("p", { class: "quiet num" }, `Until ${moment(reason.until, now)}`),
      Array.isArray(reason.missing) &&
        reason.missing.length > 0 &&
        h(
          "ul",
          { class: "tags" },
          reason.missing.map((lack) => h("li", { class: "tag" }, `${lack.kind}: `, foreign(lack.value, { max: 100 }))),
        ),
      reason.code === "no_crawler" &&
        h(
          "p",
          { class: "small" },
          "Start one, for example: ",
          h("code", {}, "cargo run --release --example git_crawler -- --root ."),
        ),
      reason.gate && h("p", {}, h("a", { href: "#/queue" }, "To the gates")),
      typeof reason.held === "number" &&
        h("p", { class: "quiet num" }, `${plural(reason.held, "job")} of the account held, ${reason.limit} allowed`),
    ]);
  }
}
