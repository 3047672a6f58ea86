// What states, activities, totals, estimates and kinds of jobs are called for people. Pure.

import { clean, clock, count, isNumber, percent, range } from "./format.js";

export const STATES = ["running", "assigned", "queued", "delayed", "paused", "completed", "failed", "cancelled"];
export const ENDED = new Set(["completed", "failed", "cancelled"]);

// Groups by which lists are filtered.
export const GROUPS = [
  { id: "all", label: "All", states: null },
  { id: "active", label: "Active", states: ["running", "assigned"] },
  { id: "waiting", label: "Waiting", states: ["queued", "delayed"] },
  { id: "paused", label: "Paused", states: ["paused"] },
  { id: "completed", label: "Completed", states: ["completed"] },
  { id: "failed", label: "Failed", states: ["failed"] },
  { id: "cancelled", label: "Cancelled", states: ["cancelled"] },
];

export const TYPES = [
  {
    id: "discover_namespaces",
    label: "Discover namespaces",
    says: "Finds groups, projects and users of a host; each becomes a job of its own.",
  },
  { id: "crawl_group", label: "Crawl a group", says: "Reads one group." },
  { id: "crawl_project", label: "Crawl a project", says: "Reads one project." },
  { id: "crawl_user", label: "Crawl a user", says: "Reads one user." },
];

export function typeLabel(type) {
  return TYPES.find((known) => known.id === type)?.label ?? clean(type);
}

const TYPE_NOUNS = new Map([
  ["discover_namespaces", "discovery"],
  ["crawl_group", "group"],
  ["crawl_project", "project"],
  ["crawl_user", "user"],
]);
export function typeNoun(type) {
  return TYPE_NOUNS.get(type) ?? clean(type);
}

// The name people know a job by.
export function nameOf(job) {
  const own = job.web_app_job_id && job.web_app_job_id !== job.id ? job.web_app_job_id : null;
  const named = job.entity_name || job.namespace_path || job.entity_id || own;
  if (named) return named;
  return job.job_type === "discover_namespaces"
    ? `Discovery of ${hostOf(job.gitlab_host)}`
    : `${typeLabel(job.job_type)} ${job.id.slice(-8)}`;
}

export function hostOf(url) {
  return typeof url === "string" ? url.replace(/^https:\/\//, "") : "";
}

// The state as it is shown: a wish that is not fulfilled yet is part of it.
export function stateOf(job) {
  if (job.want?.want === "cancel") return "cancelling";
  if (job.want?.want === "pause") return "pausing";
  const state = job.state ?? job.status;
  return STATES.includes(state) ? state : "unknown";
}

// How the work looks from outside, where it does not simply go on. Null when nothing needs to be said.
export function trouble(job) {
  if (job.pause_reason === "quarantined")
    return { kind: "bad", word: "quarantined", says: "given out many times in a row and never begun" };
  if (job.state !== "running") return null;
  switch (job.progress?.activity) {
    case "quiet":
      return { kind: "warn", word: "quiet", says: "no word about it from its crawler for a while" };
    case "stalled":
      return { kind: "bad", word: "stalled", says: `no step forward since ${clock(job.progress.clocks?.work_at)}` };
    case "waiting":
      return { kind: "warn", word: "held up", says: "a gate of its host or credentials is closed" };
    case "lost":
      return { kind: "bad", word: "lost", says: "nothing is heard from its crawler" };
    default:
      return null;
  }
}

// Ours where there are counts, else the crawler's word. Null: nobody said anything.
export function completionOf(job) {
  if (job.status === "completed") return { share: 1, whose: "ours" };
  const progress = job.progress;
  if (!progress || progress.updated_at === null) return null;
  const counted = Array.isArray(progress.entities) && progress.entities.length > 0;
  if (counted && isNumber(progress.completion)) return { share: progress.completion, whose: "ours" };
  return isNumber(progress.overall_completion) ? { share: progress.overall_completion, whose: "crawler" } : null;
}

// Whether the bar has an open end.
export function isOpenEnded(job) {
  return job.state === "running" && (job.progress ? Boolean(job.progress.discovering) : true);
}

// "58 of at least 600 items".
export function itemsOf(done, total, noun = "items") {
  const items = count(total?.items);
  switch (total?.kind) {
    case "known":
      return `${count(done)} of ${items} ${noun}`;
    case "estimate":
      return `${count(done)} of about ${items} ${noun}`;
    case "at_least":
      return `${count(done)} of at least ${items} ${noun}`;
    default:
      return total?.items > 0
        ? `${count(done)} of ${items} ${noun} found so far`
        : `${count(done)} ${noun}, total unknown`;
  }
}

export const TOTAL_KINDS = {
  known: "known: there will be no more",
  estimate: "an estimate",
  at_least: "at least this many; more may come",
  unknown: "unknown: nobody has said",
};

const NO_ESTIMATE = {
  not_started: "not begun",
  too_early: "too early to tell",
  total_open: "cannot tell while more is being found",
  no_speed: "nothing processed yet",
  too_far: "more than a year",
  waiting: "held up by a gate",
  paused: "paused",
  stalled: "stalled",
  finished: "over",
};

// The same where there is little room.
const NO_ESTIMATE_SHORT = {
  total_open: "not known yet",
  waiting: "held up",
  too_far: "over a year",
  no_speed: "not known yet",
};

// How long it will take: a range, or why nobody can say.
export function remaining(eta) {
  if (isNumber(eta?.low_ms) && isNumber(eta?.high_ms)) {
    return {
      known: true,
      text: `${range(eta.low_ms, eta.high_ms)} left`,
      short: range(eta.low_ms, eta.high_ms),
      detail: `ends between ${clock(eta.low_at)} and ${clock(eta.high_at)}, likely ${clock(eta.likely_at)}; confidence ${clean(eta.confidence)}`,
    };
  }
  const reason = eta?.none;
  const text = Object.hasOwn(NO_ESTIMATE, reason ?? "") ? NO_ESTIMATE[reason] : "no estimate";
  return { known: false, text, short: NO_ESTIMATE_SHORT[reason] ?? text, detail: "" };
}

// What a screen reader says of a bar.
export function barText(job) {
  const completion = completionOf(job);
  if (!completion) return job.state === "running" ? "running, nothing reported yet" : "nothing reported";
  const parts = [percent(completion.share)];
  if (completion.whose === "crawler") parts.push("says the crawler");
  if (job.state === "running" && job.progress?.discovering) parts.push("still discovering");
  const wrong = trouble(job);
  if (wrong) parts.push(wrong.word);
  return parts.join(", ");
}

export const SEVERITIES = ["critical", "high", "medium", "low"];

export const CATEGORIES = new Map([
  ["connection", "Connections"],
  ["message_parsing", "Lines that are no messages"],
  ["message_validation", "Messages that break a rule"],
  ["database", "Database"],
  ["job_processing", "Jobs"],
  ["authentication", "Who may speak"],
  ["rate_limiting", "Too much at once"],
  ["network", "Network"],
  ["timeout", "Time ran out"],
  ["resource", "Budgets and resources"],
  ["configuration", "Configuration"],
  ["internal", "Defects"],
]);

export const ARROWS = new Map([
  ["submit", "submitted"],
  ["discover", "discovered"],
  ["promote", "its time came"],
  ["claim", "given to a crawler"],
  ["start", "begun"],
  ["finish", "the crawler said it ended"],
  ["release", "taken back, never begun"],
  ["return", "given back by the crawler"],
  ["adopt", "taken over by a new connection"],
  ["expire", "its crawler was lost"],
  ["deadline", "ran out of time"],
  ["want_cancel", "somebody wants it cancelled"],
  ["want_pause", "somebody wants it paused"],
  ["confirm", "the crawler confirmed"],
  ["force", "ended without the crawler"],
  ["cancel", "cancelled"],
  ["pause", "paused"],
  ["resume", "resumed"],
  ["retry", "to be tried again"],
  ["redrive", "given another chance"],
  ["set_priority", "priority changed"],
]);

export const ISSUES = new Map([
  ["stalled", "No step forward for long"],
  ["slow", "Much slower than before"],
  ["high_error_rate", "Half of the attempts went wrong"],
  ["counter_fell", "A counter fell"],
  ["processed_above_discovered", "More processed than found"],
  ["totals_mismatch", "Final counts differ from the reports"],
  ["too_many_entities", "More than 256 counters"],
]);

export function arrowText(arrow) {
  return ARROWS.get(arrow) ?? clean(arrow).replaceAll("_", " ");
}

export function entityName(entity) {
  return [entity?.entity_type, entity?.sub_collection].filter(Boolean).map(clean).join(" / ");
}
