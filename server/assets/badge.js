// Words with a shape and a colour: the state of a job, its trouble, the severity of an error.

import { h, setAttribute, setText } from "./dom.js";
import { icon } from "./icons.js";
import { stateOf } from "./words.js";

export class StateBadge {
  constructor() {
    this.word = h("span");
    this.element = h("span", { class: "badge" }, this.word);
    this.state = null;
  }

  setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.mark?.remove();
    this.mark = icon(state);
    this.element.prepend(this.mark);
    setAttribute(this.element, "data-tone", state);
    setText(this.word, state);
  }

  setJob(job) {
    this.setState(stateOf(job));
  }
}

export function stateBadge(state) {
  const badge = new StateBadge();
  badge.setState(state);
  return badge.element;
}

export function tag(text, tone = "plain", title = null) {
  return h("span", { class: "tag", "data-tone": tone, title }, text);
}
