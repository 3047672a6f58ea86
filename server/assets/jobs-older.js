// Jobs older than what the stream told of, page by page, as the list is scrolled.

import { queryOf } from "./jobs-filter.js";

const PAGE = 500;

// Pages without a match that are gone through before somebody is asked whether to go on.
const IN_VAIN_MAX = 20;

export class Older {
  // `fetch(query, signal)` gives a page, `came(items)` takes it, `changed()` tells that what is shown of it changed.
  constructor({ fetch, came, changed }) {
    Object.assign(this, { fetch, came, changed });
    this.abort = null;
    this.reset({});
  }

  reset(query) {
    this.abort?.abort();
    Object.assign(this, { query, cursor: null, over: false, loading: false, problem: null, abort: null, inVain: 0 });
  }

  // Another filter, or a new snapshot: from the newest on.
  begin(filter, { over = false } = {}) {
    this.reset(queryOf(filter));
    this.over = over;
  }

  async next({ anew = false } = {}) {
    if (anew) this.inVain = 0;
    if (this.loading || this.over || this.inVain >= IN_VAIN_MAX || (this.problem && !anew)) return;
    const abort = new AbortController();
    Object.assign(this, { loading: true, problem: null, abort });
    this.changed();
    try {
      const answer = await this.ask(abort.signal);
      if (abort !== this.abort) return;
      this.cursor = answer.next_cursor;
      this.over = !answer.next_cursor;
      this.loading = false;
      const items = answer.items ?? [];
      this.inVain = items.length > 0 ? 0 : this.inVain + 1;
      this.came(items);
    } catch (problem) {
      if (abort !== this.abort) return;
      Object.assign(this, { loading: false, problem });
    }
    this.changed();
  }

  ask(signal) {
    return this.fetch({ ...this.query, limit: PAGE, cursor: this.cursor, progress: "true" }, signal);
  }

  close() {
    this.abort?.abort();
    this.abort = {};
  }
}
