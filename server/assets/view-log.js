// What happens, as it happens: the last 500 events since this page was opened. Reports and figures are too many to be listed.

import { h, keyed, setAttribute, setHidden, setText } from "./dom.js";
import { plural } from "./format.js";
import { icon } from "./icons.js";
import { KINDS, lineOf, textOf } from "./log-line.js";
import { LOG_MAX } from "./state.js";

export default function log(main, context) {
  return new LogView(main, context);
}

class LogView {
  constructor(main, { store }) {
    Object.assign(this, { title: "Live log", store, held: null, kinds: new Set(KINDS.map(({ id }) => id)) });
    this.search = h("input", {
      type: "search",
      id: "search",
      class: "search-input",
      placeholder: "Words in the log",
      "aria-label": "Search the log",
      autocomplete: "off",
      on: { input: () => this.draw() },
    });
    this.chips = KINDS.map((kind) =>
      h(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-pressed": "true",
          on: { click: (event) => this.flip(kind.id, event.currentTarget) },
        },
        kind.label,
      ),
    );
    this.hold = h(
      "button",
      { type: "button", class: "button", "aria-pressed": "false", on: { click: () => this.flipHold() } },
      "Hold",
    );
    this.says = h("span", { class: "quiet num" });
    this.rows = h("ol", { class: "log" });
    this.empty = h(
      "div",
      { class: "empty" },
      h("h2", {}, "Nothing has happened yet"),
      h("p", {}, `What happens from now on is listed here, the last ${LOG_MAX} events.`),
    );
    main.append(
      h("div", { class: "view-head" }, h("h1", {}, "Live log"), this.says, this.hold),
      h(
        "div",
        { class: "filters" },
        h("div", { class: "search" }, icon("search"), this.search, h("kbd", { "aria-hidden": "true" }, "/")),
        h("div", { class: "chips", role: "group", "aria-label": "Kinds of events" }, this.chips),
      ),
      h(
        "section",
        { class: "card flush", "aria-label": "Events" },
        h("div", { role: "log", "aria-live": "off", "aria-label": "Events, newest first" }, this.rows),
        this.empty,
      ),
    );
    this.stop = store.listen((changes) => {
      if (changes.topics.has("log")) this.draw();
    });
    this.draw();
  }

  close() {
    this.stop();
  }

  focusSearch() {
    this.search.focus();
    return true;
  }

  flip(id, button) {
    if (!this.kinds.delete(id)) this.kinds.add(id);
    setAttribute(button, "aria-pressed", String(this.kinds.has(id)));
    this.draw();
  }

  // So that one can read while much happens.
  flipHold() {
    this.held = this.held === null ? this.store.state.log.slice() : null;
    setAttribute(this.hold, "aria-pressed", String(this.held !== null));
    setText(this.hold, this.held === null ? "Hold" : "Go on");
    this.draw();
  }

  draw() {
    const wanted = new Set(KINDS.filter(({ id }) => this.kinds.has(id)).flatMap(({ events }) => events));
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const log = this.held ?? this.store.state.log;
    const shown = log
      .filter((entry) => wanted.has(entry.event) && words.every((word) => textOf(entry).includes(word)))
      .reverse();
    keyed(
      this.rows,
      shown,
      (entry) => entry.number,
      (entry) => ({ element: lineOf(entry) }),
    );
    const newer = this.held === null ? 0 : this.store.state.logged - (this.held[this.held.length - 1]?.number ?? 0);
    setText(this.says, this.held === null ? plural(shown.length, "event") : `held, ${plural(newer, "newer event")}`);
    setHidden(this.empty, shown.length > 0);
    setHidden(this.rows, shown.length === 0);
  }
}
