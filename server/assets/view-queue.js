// The queue as a whole, the gates before jobs, another chance for many, and the record of acts.

import { confirmAndSend } from "./acts.js";
import { get, part, post } from "./api.js";
import { foreign, h, keyed, rebuilt, setHidden } from "./dom.js";
import { Fetchers } from "./fetcher.js";
import { count, moment, plural } from "./format.js";
import { icon } from "./icons.js";
import { countsOf, setGates } from "./state.js";
import { STATES, hostOf } from "./words.js";

const REASON = { name: "reason", label: "Reason", attributes: { maxlength: 500 } };
const UNTIL = { name: "until", label: "Until", type: "datetime-local", hint: "Optional: it ends by itself then." };
const AUDIT_SHOWN = 50;
// Any change of a job may have been somebody's act.
const AUDIT_GAP_MS = 3000;

export default function queue(main, context) {
  return new QueueView(main, context);
}

class QueueView {
  constructor(main, { store }) {
    Object.assign(this, { title: "Queue and gates", store });
    this.fetchers = new Fetchers();
    this.gates = this.fetchers.add({
      load: (signal) => get("gates", { signal }),
      done: (answer) => store.change((state) => setGates(state, answer.items ?? [])),
    });
    this.audit = this.fetchers.add({
      gap: AUDIT_GAP_MS,
      load: (signal) => get("audit", { signal, query: { limit: AUDIT_SHOWN } }),
      done: (answer) => this.drawAudit(answer.items ?? []),
    });
    this.counts = h("dl", { class: "figures" });
    this.state = h("div");
    this.gateRows = h("ul", { class: "rows" });
    this.noGates = h("p", { class: "quiet" }, "No gate is closed: every job may be given out.");
    this.auditRows = h("ol", { class: "rows audit" });
    const button = (label, act) => h("button", { type: "button", class: "button", on: { click: () => act() } }, label);
    main.append(
      h("div", { class: "view-head" }, h("h1", {}, "Queue and gates")),
      h(
        "div",
        { class: "queue-grid" },
        h("section", { class: "card", "aria-label": "Queue" }, h("h2", {}, "Queue"), this.state, this.counts),
        h(
          "section",
          { class: "card", "aria-label": "Another chance" },
          h("h2", {}, "Another chance for many"),
          h(
            "p",
            { class: "quiet" },
            "Puts jobs that failed, or that were given out many times and never begun, into the queue again.",
          ),
          h(
            "div",
            { class: "acts" },
            button("Failed jobs…", () => this.redrive("failed")),
            button("Quarantined jobs…", () => this.redrive("quarantined")),
          ),
        ),
        h(
          "section",
          { class: "card wide", "aria-label": "Closed gates" },
          h(
            "div",
            { class: "card-head" },
            h("h2", {}, "Closed gates"),
            h(
              "div",
              { class: "acts" },
              button("Close a host…", () => this.shutGate("host")),
              button("Close an account on a host…", () => this.shutGate("credentials")),
            ),
          ),
          h("p", { class: "quiet small" }, "A closed gate keeps jobs from being given out. Those that run go on."),
          this.noGates,
          this.gateRows,
        ),
        h("section", { class: "card wide", "aria-label": "Who did what" }, h("h2", {}, "Who did what"), this.auditRows),
      ),
    );
    this.stop = store.listen((changes) => this.changed(changes));
    this.gates.refresh();
    this.audit.refresh();
    this.draw();
  }

  close() {
    this.stop();
    this.fetchers.close();
  }

  changed(changes) {
    if (changes.topics.has("snapshot")) this.gates.refresh();
    if (changes.topics.has("gates") || changes.topics.has("job") || changes.topics.has("snapshot"))
      this.audit.refresh();
    this.draw();
  }

  get paused() {
    return [...this.store.state.gates.values()].find((gate) => gate.kind === "queue") ?? null;
  }

  draw() {
    const { state } = this.store;
    const now = this.store.now();
    const { counts, whose } = countsOf(state);
    const figures = STATES.map((name) => [name, counts[name] ?? 0]);
    rebuilt(this.counts, JSON.stringify([figures, whose]), () =>
      figures.map(([name, number]) =>
        h("div", {}, h("dt", { class: "state-word" }, icon(name), name), h("dd", { class: "num" }, count(number))),
      ),
    );
    const gate = this.paused;
    rebuilt(this.state, JSON.stringify(gate), () =>
      gate
        ? [
            h(
              "p",
              { class: "note", "data-tone": "warn" },
              h("strong", {}, "Paused. "),
              "Nothing is given out; what runs goes on. ",
              wordsOf(gate, now),
            ),
            h(
              "button",
              { type: "button", class: "button primary", on: { click: () => this.resume() } },
              "Resume the queue",
            ),
          ]
        : [
            h("p", {}, "Jobs are given out."),
            h("button", { type: "button", class: "button", on: { click: () => this.pause() } }, "Pause the queue…"),
          ],
    );
    const gates = [...state.gates.values()].filter(({ kind }) => kind !== "queue");
    setHidden(this.noGates, gates.length > 0);
    keyed(
      this.gateRows,
      gates,
      (one) => JSON.stringify(one),
      (one) => this.gateRow(one, now),
    );
  }

  gateRow(gate, now) {
    const element = h(
      "li",
      { class: "gate" },
      h(
        "div",
        {},
        h(
          "strong",
          {},
          gate.kind === "host" ? "Host " : "Credentials of ",
          gate.account_id && [foreign(gate.account_id, { max: 120 }), " on "],
          foreign(hostOf(gate.gitlab_host), { max: 120 }),
        ),
        h("p", { class: "quiet small" }, wordsOf(gate, now)),
      ),
      h("button", { type: "button", class: "button small", on: { click: () => this.openGate(gate) } }, "Open"),
    );
    return { element };
  }

  drawAudit(items) {
    const now = this.store.now();
    rebuilt(this.auditRows, JSON.stringify(items), () =>
      items.length === 0
        ? h("li", { class: "quiet" }, "Nobody has done anything yet.")
        : items.map((item) =>
            h(
              "li",
              {},
              h("time", { class: "num quiet small", datetime: item.at }, moment(item.at, now)),
              " ",
              foreign(item.by, { max: 200 }),
              " · ",
              h("strong", {}, String(item.act).replaceAll("_", " ")),
              " · ",
              /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(item.target)
                ? h("a", { href: `#/jobs/${part(item.target)}` }, item.target)
                : foreign(item.target, { max: 300 }),
            ),
          ),
    );
  }

  async sent(options) {
    if (await confirmAndSend(options)) {
      this.gates.refresh({ soon: true });
      this.audit.refresh({ soon: true });
    }
  }

  pause() {
    return this.sent({
      title: "Pause the queue?",
      says: "Nothing is given out any more, on every server. What runs goes on, and submissions are taken.",
      confirm: "Pause the queue",
      fields: [REASON, UNTIL],
      send: (values) => post("queue/pause", given(values)),
      done: () => "The queue is paused.",
    });
  }

  resume() {
    return this.sent({
      title: "Resume the queue?",
      says: "Jobs are given out again.",
      confirm: "Resume the queue",
      send: ({ by }) => post("queue/resume", by),
      done: () => "The queue goes on.",
    });
  }

  shutGate(kind) {
    const fields = [
      kind === "credentials" && { name: "account_id", label: "Account", required: true },
      { name: "gitlab_host", label: "Host", required: true },
      REASON,
      UNTIL,
    ].filter(Boolean);
    return this.sent({
      title: kind === "host" ? "Close a host?" : "Close an account on a host?",
      says: "Its jobs wait until the gate is opened.",
      confirm: "Close",
      fields,
      send: (values) => post("gates/close", { kind, ...given(values) }),
      done: () => "The gate is closed.",
    });
  }

  openGate(gate) {
    const { kind, account_id, gitlab_host } = gate;
    const named = Object.fromEntries(Object.entries({ account_id, gitlab_host }).filter(([, value]) => value));
    return this.sent({
      title: "Open the gate?",
      says: "Its jobs are given out again.",
      confirm: "Open",
      send: ({ by }) => post("gates/open", { kind, ...named, ...by }),
      done: () => "The gate is open.",
    });
  }

  redrive(which) {
    return this.sent({
      title: `Another chance for ${which} jobs?`,
      says: "They go into the queue again.",
      confirm: "Put into the queue",
      fields: [{ name: "account_id", label: "Only of this account", hint: "Empty for all." }],
      send: ({ account_id, by }) => post("redrive", { [which]: true, ...(account_id ? { account_id } : {}), ...by }),
      done: (answer) => `${plural(answer?.redriven ?? 0, "job")} put into the queue`,
    });
  }
}

function given({ by, until, ...values }) {
  const some = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
  return { ...some, ...(until ? { until: new Date(until).toISOString() } : {}), ...by };
}

function wordsOf(gate, now) {
  return h(
    "span",
    {},
    `Since ${moment(gate.closed_at, now)}`,
    gate.by && [", by ", foreign(gate.by, { max: 120 })],
    gate.until && `, until ${moment(gate.until, now)}`,
    gate.reason && [": ", foreign(gate.reason, { max: 500 })],
  );
}
