// Keys for those who watch all night. Single keys can be switched off, because dictation and some keyboards press them by mistake.

import { h } from "./dom.js";
import { anyDialogOpen, show } from "./dialog.js";
import { recall, remember } from "./prefs.js";
import { go } from "./router.js";

const PLACES = { o: "#/overview", j: "#/jobs", c: "#/crawlers", a: "#/areas", e: "#/errors", l: "#/log", q: "#/queue" };

// How long the second key of `g j` may take.
const SECOND_MS = 1200;

const HELP = [
  ["/", "Search jobs"],
  ["j, ↓ and k, ↑", "Next and previous job in the list"],
  ["Home, End", "First and last job of the list"],
  ["Enter", "Open the job"],
  ["n", "Submit a job"],
  ["g then o, j, c, a, e, l, q", "Go to overview, jobs, crawlers, areas, errors, log, queue"],
  ["t", "Change the colours"],
  ["Esc", "Close a dialog, leave a field"],
  ["?", "This help"],
];

export class Keys {
  constructor({ views, cycleTheme }) {
    Object.assign(this, { views, cycleTheme });
    this.prefix = 0;
    document.addEventListener("keydown", (event) => this.pressed(event));
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || anyDialogOpen()) return;
    const field = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key === "Escape" && field) field.blur();
    if (field) return;
    if (this.views.shown?.onKey?.(event)) {
      event.preventDefault();
      return;
    }
    if (recall("keys") === "off" && event.key !== "?") return;
    if (this.act(event.key)) event.preventDefault();
  }

  act(key) {
    const second = performance.now() - this.prefix < SECOND_MS;
    this.prefix = 0;
    if (second && Object.hasOwn(PLACES, key)) return (go(PLACES[key]), true);
    switch (key) {
      case "g":
        this.prefix = performance.now();
        return true;
      case "?":
        this.help();
        return true;
      case "n":
        go("#/submit");
        return true;
      case "t":
        this.cycleTheme();
        return true;
      case "/":
        if (!this.views.shown?.focusSearch?.()) go("#/jobs?focus=search");
        return true;
      default:
        return false;
    }
  }

  help() {
    show({
      title: "Keys",
      className: "help",
      content: (close) => {
        const on = h("input", {
          type: "checkbox",
          id: "keys-on",
          checked: recall("keys") !== "off",
          on: { change: () => remember("keys", on.checked ? null : "off") },
        });
        return [
          h(
            "dl",
            { class: "keys" },
            HELP.map(([keys, does]) => [
              h(
                "dt",
                {},
                keys.split(/( and | then |, )/).map((word, index) => (index % 2 ? word : h("kbd", {}, word))),
              ),
              h("dd", {}, does),
            ]),
          ),
          h("div", { class: "field check" }, on, h("label", { for: "keys-on" }, "Single keys do this")),
          h(
            "div",
            { class: "dialog-acts" },
            h("button", { type: "button", class: "button primary", on: { click: close } }, "Close"),
          ),
        ];
      },
    });
  }
}
