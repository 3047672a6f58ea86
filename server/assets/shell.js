// What stands around every view: where one can go, how fresh the page is, and the colours.

import { h, setAttribute, setHidden, setText } from "./dom.js";
import { about, clock, count } from "./format.js";
import { icon } from "./icons.js";
import { recall, remember } from "./prefs.js";
import { countsOf } from "./state.js";

const PLACES = [
  ["overview", "Overview"],
  ["jobs", "Jobs"],
  ["crawlers", "Crawlers"],
  ["areas", "Areas"],
  ["errors", "Errors"],
  ["log", "Live log"],
  ["queue", "Queue"],
];

const THEMES = ["auto", "light", "dark"];
const THEME_WORDS = { auto: "as the system", light: "light", dark: "dark" };

export class Shell {
  constructor({ store, retryNow }) {
    this.store = store;
    this.link = { phase: "connecting", heardAt: null, attempts: 0, nextAt: null, since: null };
    this.build(retryNow);
    store.everySecond(() => this.drawLink());
    store.listen((changes) => {
      if (changes.topics.size > 0) this.drawFigures();
    });
  }

  build(retryNow) {
    const list = document.getElementById("places");
    this.places = new Map();
    for (const [name, label] of PLACES) {
      const figure = h("span", { class: "place-figure num" });
      const anchor = h(
        "a",
        { href: `#/${name}`, class: "place" },
        icon(name),
        h("span", { class: "place-label" }, label),
        figure,
      );
      this.places.set(name, { anchor, figure });
      list.append(h("li", {}, anchor));
    }
    document.getElementById("submit-link").prepend(icon("plus"));
    const theme = document.getElementById("theme");
    theme.addEventListener("click", () => this.cycleTheme());
    document.getElementById("help").append(icon("help"));
    document.getElementById("retry").addEventListener("click", retryNow);
    document.getElementById("skip").addEventListener("click", (event) => {
      event.preventDefault();
      document.getElementById("main").focus();
    });
    this.setTheme(recall("theme", "auto"));
  }

  cycleTheme() {
    const now = THEMES.indexOf(recall("theme", "auto"));
    this.setTheme(THEMES[(now + 1) % THEMES.length]);
  }

  setTheme(theme) {
    const known = THEMES.includes(theme) ? theme : "auto";
    remember("theme", known === "auto" ? null : known);
    if (known === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = known;
    const button = document.getElementById("theme");
    button.replaceChildren(icon(known));
    setAttribute(button, "aria-label", `Colours: ${THEME_WORDS[known]}. Change`);
    setAttribute(button, "title", `Colours: ${THEME_WORDS[known]}`);
  }

  here(route) {
    for (const [name, { anchor }] of this.places)
      setAttribute(anchor, "aria-current", name === route.name ? "page" : null);
    this.places.get(route.name)?.anchor.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  status(link) {
    this.link = link;
    this.drawLink();
  }

  drawLink() {
    const { phase, heardAt, attempts, nextAt, since } = this.link;
    const never = heardAt === null;
    const lost = phase === "stale" || (never && attempts > 1);
    setAttribute(document.body, "data-link", lost ? "stale" : phase);
    const word =
      phase === "live"
        ? "Live"
        : !lost
          ? "Connecting"
          : never
            ? "No connection"
            : `Stale since ${clock(since ?? heardAt)}`;
    const pill = document.getElementById("link");
    setAttribute(pill, "data-state", lost ? "stale" : phase);
    setText(document.getElementById("link-word"), word);
    setHidden(document.getElementById("banner"), !lost);
    if (!lost) return;
    const now = Date.now();
    setText(
      document.getElementById("banner-words"),
      never
        ? "The server cannot be reached. Nothing is shown yet."
        : `The connection to the server is cut. What is shown is as of ${clock(since)}, ${about(now - since)} ago.`,
    );
    const wait = nextAt === null ? "now" : `in ${Math.max(1, Math.ceil((nextAt - now) / 1000))} s`;
    setText(
      document.getElementById("banner-attempt"),
      `Attempt ${count(attempts + (nextAt === null ? 0 : 1))} ${nextAt === null ? "is being made" : wait}.`,
    );
  }

  drawFigures() {
    const { state } = this.store;
    const { counts } = countsOf(state);
    const active = (counts.running ?? 0) + (counts.assigned ?? 0);
    this.figure("jobs", state.known && active > 0 ? count(active) : "", `${count(active)} active`);
    const crawlers = state.heartbeat?.crawlers ?? (state.crawlersKnown ? state.crawlers.size : null);
    this.figure("crawlers", crawlers === null ? "" : count(crawlers), "connected");
    const failing = state.statistics?.errors?.last_hour;
    this.figure("errors", failing > 0 ? count(failing) : "", "in the last hour");
    this.figure("queue", state.gates.size > 0 ? count(state.gates.size) : "", "closed gates");
  }

  figure(name, text, title) {
    const { figure } = this.places.get(name);
    setText(figure, text);
    setAttribute(figure, "title", text ? title : null);
  }
}
