// The start: one state, one connection, one view at a time.

import { get } from "./api.js";
import { Keys } from "./keys.js";
import { Live } from "./live.js";
import { Views } from "./router.js";
import { Shell } from "./shell.js";
import { EVENT_NAMES, setGates } from "./state.js";
import { Store } from "./store.js";
import { Fetcher } from "./fetcher.js";
import areas from "./view-areas.js";
import crawlers from "./view-crawlers.js";
import errors from "./view-errors.js";
import job from "./view-job.js";
import jobs from "./view-jobs.js";
import log from "./view-log.js";
import nowhere from "./view-nowhere.js";
import overview from "./view-overview.js";
import queue from "./view-queue.js";
import submit from "./view-submit.js";

const store = new Store();
const shell = new Shell({ store, retryNow: () => live.retryNow() });

const live = new Live({
  path: "/api/v1/stream",
  names: EVENT_NAMES,
  onEvent: (name, data, at) => store.event(name, data, at),
  onStatus: (status) => shell.status(status),
  make: (url) => new EventSource(url),
  timers: {
    setTimeout: setTimeout.bind(window),
    clearTimeout: clearTimeout.bind(window),
    setInterval: setInterval.bind(window),
    clearInterval: clearInterval.bind(window),
  },
  now: () => Date.now(),
  chance: () => Math.random(),
});

const views = new Views({
  main: document.getElementById("main"),
  views: new Map(
    Object.entries({ overview, jobs, "jobs/": job, crawlers, areas, errors, log, queue, submit, nowhere }),
  ),
  context: { store },
  onShown: (route) => shell.here(route),
});

const keys = new Keys({ views, cycleTheme: () => shell.cycleTheme() });
document.getElementById("help").addEventListener("click", () => keys.help());

// The gates are not part of a snapshot.
const gates = new Fetcher({
  load: (signal) => get("gates", { signal }),
  done: (answer) => store.change((state) => setGates(state, answer.items ?? [])),
});
store.listen((changes) => {
  if (changes.topics.has("snapshot")) gates.refresh();
});

window.addEventListener("online", () => live.retryNow());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) live.retryNow();
});

live.start();
views.show();
