// Connections that are open, and why others ended. Read when the view opens and when connections come or go.

import { get } from "./api.js";
import { foreign, h, rebuilt } from "./dom.js";
import { bytes, count, moment, span } from "./format.js";

export class Connections {
  constructor({ fetchers, store }) {
    this.store = store;
    this.open = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Open connections" });
    this.closed = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Connections that ended" });
    this.element = h(
      "div",
      { class: "stack-wide" },
      h(
        "section",
        { class: "card flush", "aria-label": "Connections" },
        h("div", { class: "card-head" }, h("h2", {}, "Connections")),
        this.open,
      ),
      h(
        "section",
        { class: "card flush", "aria-label": "Why others ended" },
        h("div", { class: "card-head" }, h("h2", {}, "Why others ended")),
        this.closed,
      ),
    );
    this.fetchers = [
      fetchers.add({
        load: (signal) => get("connections", { signal }),
        done: (answer) => this.drawOpen(answer.items ?? []),
        failed: (problem) => this.failed(this.open, problem),
      }),
      fetchers.add({
        load: (signal) => get("connections/closed", { signal }),
        done: (answer) => this.drawClosed(answer),
        failed: (problem) => this.failed(this.closed, problem),
      }),
    ];
  }

  refresh() {
    for (const fetcher of this.fetchers) fetcher.refresh();
  }

  failed(place, problem) {
    place.replaceChildren(
      h("p", { class: "quiet pad" }, problem.unavailable ? "Not available on this server." : problem.message),
    );
    place.builtMark = null;
  }

  drawOpen(items) {
    rebuilt(this.open, JSON.stringify(items), () =>
      items.length === 0
        ? h("p", { class: "quiet pad" }, "There is none.")
        : table(
            ["Peer", "State", "Session", "Received", "Sent", "Errors", "Waits to be written"],
            items.map((item) => [
              foreign(item.peer, { max: 120 }),
              item.state,
              foreign(item.session ?? "–", { max: 80 }),
              `${count(item.messages_received)} · ${bytes(item.bytes_received)}`,
              `${count(item.messages_sent)} · ${bytes(item.bytes_sent)}`,
              item.errors > 0 ? [count(item.errors), " ", foreign(item.last_error ?? "", { max: 60 })] : "0",
              bytes(item.queued_bytes),
            ]),
          ),
    );
  }

  drawClosed(answer) {
    const now = this.store.now();
    const reasons = Object.entries({ ...answer.by_reason, ...answer.refused_by_reason }).sort((a, b) => b[1] - a[1]);
    const all = [...(answer.items ?? []), ...(answer.refused ?? [])]
      .sort((a, b) => (a.at < b.at ? 1 : -1))
      .slice(0, 50);
    rebuilt(this.closed, JSON.stringify([reasons, all]), () =>
      all.length === 0
        ? h("p", { class: "quiet pad" }, "None has ended since this server was started.")
        : [
            h(
              "ul",
              { class: "tags pad" },
              reasons.map(([reason, number]) =>
                h(
                  "li",
                  { class: "tag" },
                  `${reason.replaceAll("_", " ")} `,
                  h("span", { class: "num" }, count(number)),
                ),
              ),
            ),
            table(
              ["When", "Reason", "Peer", "Session", "Lasted", "Messages"],
              all.map((item) => [
                moment(item.at, now),
                String(item.reason).replaceAll("_", " "),
                foreign(item.peer, { max: 120 }),
                foreign(item.session ?? "–", { max: 80 }),
                item.connected_ms === undefined ? "turned away" : span(item.connected_ms),
                item.messages_received === undefined ? "–" : count(item.messages_received),
              ]),
            ),
          ],
    );
  }
}

function table(head, rows) {
  return h(
    "table",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        head.map((name) => h("th", { scope: "col" }, name)),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map((cells) =>
        h(
          "tr",
          {},
          cells.map((cell) => h("td", { class: "num" }, cell)),
        ),
      ),
    ),
  );
}
