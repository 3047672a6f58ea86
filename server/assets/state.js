// All that the page knows, and how each event of the live stream changes it. Pure: no document, no clock, no network.
//
// Everything is bounded: jobs, the log, errors and the points of the throughput. What changed since the last look is gathered in
// `changes`, so that whoever draws touches that and nothing else.

import { ENDED, stateOf } from "./words.js";
import { isNumber, millis } from "./format.js";

export const JOBS_MAX = 20000;
// Jobs beyond that before the oldest go, so that not every event sorts them.
export const JOBS_SLACK = 500;
export const LOG_MAX = 500;
export const ERRORS_MAX = 300;
// Five minutes at one point a second.
export const POINTS_MAX = 300;

export function create() {
  return {
    known: false,
    at: null,
    skew: 0,
    jobs: new Map(),
    order: [],
    partial: false,
    epoch: 0,
    counts: null,
    aggregate: null,
    statistics: null,
    crawlers: new Map(),
    crawlersKnown: false,
    gates: new Map(),
    errors: [],
    log: [],
    logged: 0,
    points: [],
    heartbeat: null,
    changes: none(),
  };
}

function none() {
  return { jobs: new Set(), order: false, topics: new Set() };
}

export function takeChanges(state) {
  const taken = state.changes;
  state.changes = none();
  return taken;
}

// The moment at the server, by its last word.
export function serverNow(state, now) {
  return now - state.skew;
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isList = Array.isArray;

const EVENTS = new Map(
  Object.entries({
    snapshot(state, data, now) {
      state.known = true;
      state.epoch += 1;
      state.jobs.clear();
      state.order = [];
      const jobs = isList(data.jobs) ? data.jobs : [];
      for (const job of jobs) keep(state, job);
      state.counts = isObject(data.counts) ? data.counts : null;
      const all = state.counts ? sum(state.counts) : null;
      state.partial = all === null ? jobs.length >= 500 : all > state.jobs.size;
      if (isObject(data.aggregate)) state.aggregate = data.aggregate;
      if (isObject(data.statistics)) statistics(state, data.statistics, now);
      if (isList(data.crawlers)) setCrawlers(state, data.crawlers, now);
      stamp(state, data.at, now);
      touch(state, "snapshot", "counts", "aggregate");
      state.changes.order = true;
    },
    job(state, data, now) {
      const before = state.jobs.get(data.id);
      const was = before ? stateOf(before) : null;
      const job = keep(state, data);
      if (job && was !== stateOf(job)) {
        note(state, now, "job", { job: job.id, name: job, from: was, to: stateOf(job), at: job.updated_at });
        if (!state.statistics) touch(state, "counts");
      }
    },
    deleted(state, data, now) {
      if (!state.jobs.delete(data.job_id)) return;
      const place = state.order.indexOf(data.job_id);
      if (place >= 0) state.order.splice(place, 1);
      state.changes.order = true;
      state.changes.jobs.add(data.job_id);
      note(state, now, "deleted", { job: data.job_id });
    },
    progress(state, data) {
      const job = state.jobs.get(data.job_id);
      if (!job || (isNumber(data.attempt) && data.attempt < job.attempt)) return;
      job.progress = data;
      state.changes.jobs.add(job.id);
    },
    state(state, data, now) {
      note(state, now, "state", { job: data.job_id, from: data.from, to: data.to });
    },
    entity_discovered(state, data, now) {
      note(state, now, "entity_discovered", { job: data.job_id, entity: data.entity });
    },
    entity_completed(state, data, now) {
      note(state, now, "entity_completed", { job: data.job_id, entity: data.entity });
    },
    milestone(state, data, now) {
      note(state, now, "milestone", { job: data.job_id, entity: data.entity, percent: data.percent, at: data.at });
      if (state.jobs.has(data.job_id)) state.changes.jobs.add(data.job_id);
    },
    tree_milestone(state, data, now) {
      note(state, now, "tree_milestone", { job: data.root_id, percent: data.percent, at: data.at });
    },
    stalled(state, data, now) {
      note(state, now, "stalled", { job: data.job_id });
      const job = state.jobs.get(data.job_id);
      if (!job?.progress) return;
      job.progress = { ...job.progress, activity: "stalled" };
      state.changes.jobs.add(job.id);
    },
    estimate(state, data) {
      const job = state.jobs.get(data.job_id);
      if (!job?.progress || !isObject(data.eta)) return;
      job.progress = { ...job.progress, eta: data.eta };
      state.changes.jobs.add(job.id);
    },
    aggregate(state, data) {
      state.aggregate = data;
      touch(state, "aggregate");
    },
    statistics(state, data, now) {
      statistics(state, data, now);
      stamp(state, data.at, now);
    },
    crawler(state, data, now) {
      const before = state.crawlers.get(data.id);
      if (data.gone) {
        state.crawlers.delete(data.id);
        note(state, now, "crawler", { crawler: data.id, what: "left" });
      } else {
        state.crawlers.set(data.id, { ...data, heard: now });
        state.crawlersKnown = true;
        if (!before) note(state, now, "crawler", { crawler: data.id, what: "came" });
        else if (before.state !== data.state)
          note(state, now, "crawler", { crawler: data.id, what: "is", to: data.state });
      }
      touch(state, "crawlers");
    },
    error(state, data, now) {
      addErrors(state, [data]);
      note(state, now, "error", {
        job: data.job_id,
        code: data.code,
        category: data.category,
        severity: data.severity,
        message: data.message,
        at: data.at,
      });
    },
    gate(state, data, now) {
      const name = gateKey(data);
      if (data.closed) state.gates.set(name, data);
      else state.gates.delete(name);
      touch(state, "gates");
      note(state, now, "gate", { gate: data, to: data.closed ? "closed" : "open" });
    },
    resync(state, data, now) {
      note(state, now, "resync", { reason: data.reason });
    },
    heartbeat(state, data, now) {
      const before = state.heartbeat;
      state.heartbeat = data;
      stamp(state, data.at, now);
      if (before && (before.crawlers !== data.crawlers || before.connections !== data.connections))
        touch(state, "connections");
    },
  }),
);

export const EVENT_NAMES = [...EVENTS.keys()];

// Takes one event in. What is no object, or has a name nobody knows, changes nothing; false then.
export function apply(state, name, data, now) {
  const act = EVENTS.get(name);
  if (!act || !isObject(data)) return false;
  act(state, data, now);
  touch(state, name);
  return true;
}

// Jobs of a page of a list, which may be older than what the stream said meanwhile.
export function addJobs(state, jobs) {
  for (const job of isList(jobs) ? jobs : []) {
    const held = isObject(job) ? state.jobs.get(job.id) : null;
    if (!held || String(held.updated_at) <= String(job.updated_at)) keep(state, job);
  }
}

export function addErrors(state, entries) {
  const known = new Set(state.errors.map((entry) => entry.id));
  const fresh = entries.filter((entry) => isObject(entry) && !known.has(entry.id));
  if (fresh.length === 0) return;
  state.errors = [...fresh, ...state.errors].sort((a, b) => b.id - a.id).slice(0, ERRORS_MAX);
  touch(state, "errors");
}

export function setGates(state, gates) {
  state.gates = new Map(
    gates
      .filter(isObject)
      .filter((gate) => gate.closed)
      .map((gate) => [gateKey(gate), gate]),
  );
  touch(state, "gates");
}

export function setCrawlers(state, crawlers, now) {
  state.crawlers = new Map(crawlers.filter(isObject).map((crawler) => [crawler.id, { ...crawler, heard: now }]));
  state.crawlersKnown = true;
  touch(state, "crawlers");
}

export function gateKey(gate) {
  return JSON.stringify([gate.kind, gate.account_id ?? null, gate.gitlab_host ?? null]);
}

// Jobs by state: of the server where it says so, else of the jobs that are here.
export function countsOf(state) {
  const told = state.statistics?.counts ?? state.counts;
  if (told) return { counts: told, all: sum(told), whose: "server" };
  const counts = {};
  for (const job of state.jobs.values()) counts[job.state] = (counts[job.state] ?? 0) + 1;
  return { counts, all: state.jobs.size, whose: "page" };
}

function sum(counts) {
  return Object.values(counts).reduce((all, number) => all + (isNumber(number) ? number : 0), 0);
}

function touch(state, ...topics) {
  for (const topic of topics) state.changes.topics.add(topic);
}

function stamp(state, at, now) {
  const theirs = millis(at);
  if (theirs === null) return;
  state.at = at;
  state.skew = now - theirs;
}

function statistics(state, data, now) {
  state.statistics = data;
  if (isObject(data.rates)) {
    state.points.push({
      now,
      items: data.rates.items_per_second,
      finished: data.rates.finished_per_minute,
      failed: data.rates.failed_per_minute,
    });
    if (state.points.length > POINTS_MAX) state.points.splice(0, state.points.length - POINTS_MAX);
  }
  touch(state, "statistics", "counts");
}

function keep(state, job) {
  if (!isObject(job) || typeof job.id !== "string") return null;
  const held = state.jobs.get(job.id);
  const next = { ...job, key: `${job.created_at}${job.id}` };
  // A report may overtake the job's own event; the newer one counts, within one attempt. Pages of old lists have none.
  const heard = held?.attempt === job.attempt ? held?.progress : null;
  if (heard && (!next.progress || String(heard.updated_at) > String(next.progress.updated_at))) next.progress = heard;
  state.jobs.set(job.id, next);
  state.changes.jobs.add(job.id);
  if (!held) {
    place(state, next);
    state.changes.order = true;
    if (state.jobs.size > JOBS_MAX + JOBS_SLACK) evict(state);
  }
  return next;
}

// Newest first. Most are newer than all, or come in order.
function place(state, job) {
  const { order, jobs } = state;
  const last = order.length > 0 ? jobs.get(order[order.length - 1]) : null;
  if (!last || last.key > job.key) {
    order.push(job.id);
    return;
  }
  let [low, high] = [0, order.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (jobs.get(order[middle]).key > job.key) low = middle + 1;
    else high = middle;
  }
  order.splice(low, 0, job.id);
}

// The oldest of the ended go first, then the oldest.
function evict(state) {
  let surplus = state.jobs.size - JOBS_MAX;
  const gone = new Set();
  for (const wanted of [(job) => ENDED.has(job.status), () => true]) {
    for (let at = state.order.length - 1; at >= 0 && surplus > 0; at -= 1) {
      const id = state.order[at];
      if (gone.has(id) || !wanted(state.jobs.get(id))) continue;
      gone.add(id);
      surplus -= 1;
    }
  }
  for (const id of gone) state.jobs.delete(id);
  state.order = state.order.filter((id) => !gone.has(id));
  state.partial = true;
}

function note(state, now, event, entry) {
  const last = state.log[state.log.length - 1];
  // A counter that passes several marks at once is told once.
  if (
    event.endsWith("milestone") &&
    last?.event === event &&
    last.job === entry.job &&
    sameEntity(last.entity, entry.entity)
  )
    state.log.pop();
  state.logged += 1;
  const at = millis(entry.at) ?? serverNow(state, now);
  const job = entry.name ?? state.jobs.get(entry.job);
  state.log.push({
    ...entry,
    number: state.logged,
    event,
    at,
    about: job
      ? {
          id: job.id,
          job_type: job.job_type,
          entity_name: job.entity_name,
          namespace_path: job.namespace_path,
          entity_id: job.entity_id,
          web_app_job_id: job.web_app_job_id,
          gitlab_host: job.gitlab_host,
        }
      : null,
    name: undefined,
  });
  if (state.log.length > LOG_MAX) state.log.splice(0, state.log.length - LOG_MAX);
  touch(state, "log");
}

function sameEntity(a, b) {
  return a?.entity_type === b?.entity_type && a?.sub_collection === b?.sub_collection;
}
