// Data that is fetched when a view opens, and again when an event says that it changed: not more often than `gap`, and never
// by a clock alone.

export class Fetcher {
  constructor({ load, done, failed, gap = 1000 }) {
    Object.assign(this, { load, done, failed, gap });
    this.running = false;
    this.wanted = false;
    this.closed = false;
    this.lastEnd = -Infinity;
    this.timer = null;
    this.abort = new AbortController();
  }

  // Asks for fresh data. Many wishes become one request.
  refresh({ soon = false } = {}) {
    if (this.closed) return;
    if (this.running) {
      this.wanted = true;
      return;
    }
    if (this.timer !== null) return;
    const wait = soon || this.lastEnd === -Infinity ? 0 : Math.max(this.gap - (performance.now() - this.lastEnd), 50);
    this.timer = setTimeout(() => this.run(), wait);
  }

  async run() {
    this.timer = null;
    this.running = true;
    this.wanted = false;
    try {
      const data = await this.load(this.abort.signal);
      if (!this.closed) this.done(data);
    } catch (problem) {
      if (!this.closed && problem.name !== "AbortError") this.failed?.(problem);
    }
    this.running = false;
    this.lastEnd = performance.now();
    if (this.wanted) this.refresh();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.abort.abort();
  }
}

// Fetchers of one view, which end with it.
export class Fetchers {
  constructor() {
    this.all = [];
  }

  add(options) {
    const made = new Fetcher(options);
    this.all.push(made);
    return made;
  }

  close() {
    for (const fetcher of this.all) fetcher.close();
  }
}
