// The one state of the page, and who is told of its changes: together, at most once a frame and ten times a second.

import { apply, create, serverNow, takeChanges } from "./state.js";

// Ten times a second is live to the eye.
const DRAW_EVERY_MS = 100;

export class Store {
  constructor() {
    this.state = create();
    this.listeners = new Set();
    this.tickers = new Set();
    this.asked = false;
    this.drawn = 0;
    setInterval(() => {
      if (!document.hidden) for (const tick of this.tickers) tick(this.now());
    }, 1000);
  }

  // The server's time, so that spans are right on a machine whose clock is not.
  now() {
    return serverNow(this.state, Date.now());
  }

  event(name, data, at) {
    if (apply(this.state, name, data, at)) this.draw();
  }

  // Changes the state by other means than an event.
  change(act) {
    act(this.state);
    this.draw();
  }

  // In a tab that nobody looks at nothing is drawn: the browser calls when it comes back.
  draw() {
    if (this.asked) return;
    this.asked = true;
    const wait = Math.max(0, this.drawn + DRAW_EVERY_MS - performance.now());
    const ask = () =>
      requestAnimationFrame(() => {
        this.asked = false;
        this.drawn = performance.now();
        const changes = takeChanges(this.state);
        for (const listener of this.listeners) listener(changes, this.state);
      });
    if (wait > 0) setTimeout(ask, wait);
    else ask();
  }

  // Both give a function that ends it.
  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  everySecond(tick) {
    this.tickers.add(tick);
    return () => this.tickers.delete(tick);
  }
}
