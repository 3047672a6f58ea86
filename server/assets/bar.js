// A bar of progress. What is ours fills it, the crawler's own word is a mark on it, and an end that nobody knows yet is striped.

import { h, setAttribute, setText } from "./dom.js";
import { isNumber, percent, points } from "./format.js";
import { barText, completionOf, isOpenEnded, nameOf, stateOf } from "./words.js";
import { clean, cut } from "./format.js";

export class Bar {
  constructor({ label = "Progress", size = "" } = {}) {
    this.fill = h("i", { class: "bar-fill" });
    this.word = h("i", { class: "bar-word", hidden: true });
    this.element = h(
      "div",
      { class: `bar ${size}`, role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" },
      this.fill,
      this.word,
    );
  }

  // `share` and `word` from 0 to 1 or null; `open` when more may come; `text` is what is read aloud.
  set({ share, word = null, open = false, tone = "running", text, label }) {
    const whole = points(share);
    const width = isNumber(share) ? `${Math.min(100, Math.max(0, share * 100)).toFixed(1)}%` : "0%";
    if (this.width !== width) {
      this.width = width;
      this.fill.style.inlineSize = width;
    }
    setAttribute(this.element, "data-open", open);
    setAttribute(this.element, "data-tone", tone);
    setAttribute(this.element, "aria-valuenow", whole);
    setAttribute(this.element, "aria-valuetext", text ?? (whole === null ? "not known" : percent(share)));
    if (label) setAttribute(this.element, "aria-label", label);
    const shows = isNumber(word);
    if (this.word.hidden === shows) this.word.hidden = !shows;
    if (shows) this.word.style.insetInlineStart = `${Math.min(100, Math.max(0, word * 100)).toFixed(1)}%`;
  }

  setJob(job) {
    const completion = completionOf(job);
    this.set({
      share: completion?.share ?? null,
      open: isOpenEnded(job),
      tone: stateOf(job),
      text: barText(job),
      label: `Progress of ${cut(clean(nameOf(job)), 80)}`,
    });
  }
}

// The bar with its figure beside it.
export class FiguredBar {
  constructor(options) {
    this.bar = new Bar(options);
    this.figure = h("span", { class: "bar-figure num", "aria-hidden": "true" });
    this.element = h("div", { class: "bar-line" }, this.bar.element, this.figure);
  }

  set(values) {
    this.bar.set(values);
    setText(this.figure, percent(values.share));
  }

  setJob(job) {
    this.bar.setJob(job);
    const completion = completionOf(job);
    setText(this.figure, completion ? percent(completion.share) : "");
  }
}
