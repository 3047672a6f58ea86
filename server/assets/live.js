// The one connection over which everything live comes, and how fresh what is shown is.
//
// It connects again by itself, later each time, and asks to go on behind the last event it has. What the page says of the link
// comes from `status`: since when nothing was heard, the attempts, and when the next one is.

// Nothing for so long means that the link is dead, whatever the browser thinks of it: three heartbeats.
export const SILENT_AFTER_MS = 15000;
export const RETRY_FIRST_MS = 500;
export const RETRY_MAX_MS = 15000;
// A connection that does not answer for so long is given up.
export const OPEN_WITHIN_MS = 10000;

export class Live {
  // `make(url)` gives an EventSource; `timers` are a window's; `now` is the clock of this machine.
  constructor({ path, names, onEvent, onStatus, make, timers, now, chance }) {
    Object.assign(this, { path, names, onEvent, onStatus, make, timers, now, chance });
    this.source = null;
    this.lastId = null;
    this.timer = null;
    this.status = { phase: "connecting", heardAt: null, attempts: 0, nextAt: null, since: null };
  }

  start() {
    this.connect();
    this.watchdog = this.timers.setInterval(() => this.look(), 1000);
  }

  stop() {
    this.timers.clearInterval(this.watchdog);
    this.timers.clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  // At once, without waiting for the time of the next attempt.
  retryNow() {
    if (this.status.phase === "live") return;
    this.timers.clearTimeout(this.timer);
    this.connect();
  }

  connect() {
    this.source?.close();
    this.openedAt = this.now();
    this.say({ attempts: this.status.attempts + 1, nextAt: null });
    const query = this.lastId === null ? "" : `?last_event_id=${encodeURIComponent(this.lastId)}`;
    const source = this.make(this.path + query);
    this.source = source;
    // The stream has an event of the name `error`, and the browser one of its own; only the stream's carries data.
    for (const name of this.names) {
      source.addEventListener(name, (event) => {
        if (source !== this.source) return;
        if (typeof event.data === "string") this.heard(name, event);
        else this.failed();
      });
    }
    if (!this.names.includes("error")) source.addEventListener("error", () => source === this.source && this.failed());
  }

  heard(name, event) {
    if (event.lastEventId) this.lastId = event.lastEventId;
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return;
    }
    const heardAt = this.now();
    if (this.status.phase === "live") this.status.heardAt = heardAt;
    else this.say({ phase: "live", heardAt, attempts: 0, nextAt: null, since: null });
    this.onEvent(name, data, heardAt);
  }

  failed() {
    this.source?.close();
    this.source = null;
    const wait =
      Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(10, Math.max(0, this.status.attempts - 1))) *
      (0.75 + this.chance() / 2);
    const { heardAt } = this.status;
    this.say({ phase: heardAt === null ? "connecting" : "stale", since: heardAt, nextAt: this.now() + wait });
    this.timers.clearTimeout(this.timer);
    this.timer = this.timers.setTimeout(() => this.connect(), wait);
  }

  look() {
    const now = this.now();
    const silent = this.status.phase === "live" && now - this.status.heardAt > SILENT_AFTER_MS;
    const unanswered = this.status.phase !== "live" && this.source !== null && now - this.openedAt > OPEN_WITHIN_MS;
    if (silent || unanswered) this.failed();
  }

  say(changes) {
    this.status = { ...this.status, ...changes };
    this.onStatus(this.status);
  }
}
