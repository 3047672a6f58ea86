// Short words about what was just done, in a corner, for a few seconds; read aloud once.

import { h } from "./dom.js";

const STAYS_MS = 6000;
const SHOWN_MAX = 3;

export function toast(text, { tone = "plain" } = {}) {
  const place = document.getElementById("toasts");
  const element = h("div", { class: "toast", "data-tone": tone }, text);
  place.append(element);
  while (place.children.length > SHOWN_MAX) place.firstChild.remove();
  setTimeout(() => element.remove(), tone === "bad" ? STAYS_MS * 2 : STAYS_MS);
}

export function toastProblem(problem) {
  toast(problem.unavailable ? "This server cannot do that: it is older than this page." : problem.message, {
    tone: "bad",
  });
}
