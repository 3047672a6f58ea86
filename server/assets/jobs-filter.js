// By what the list of jobs can be narrowed: in the address, as a test of a job, and as parameters of a request. Pure but for
// `chooser`.

import { h } from "./dom.js";
import { clean } from "./format.js";
import { GROUPS, TYPES, hostOf } from "./words.js";

const WORDS = ["q", "type", "account", "host", "root", "tag"];

export function filterOf(query) {
  const group = GROUPS.some(({ id }) => id === query.get("state")) ? query.get("state") : "all";
  const filter = { group, tops: query.get("tops") === "1", narrow: false };
  for (const word of WORDS) filter[word] = query.get(word) ?? "";
  return filter;
}

export function hashOf(filter) {
  const query = new URLSearchParams();
  if (filter.group !== "all") query.set("state", filter.group);
  if (filter.tops) query.set("tops", "1");
  for (const word of WORDS) if (filter[word]) query.set(word, filter[word]);
  const search = query.toString();
  return search ? `#/jobs?${search}` : "#/jobs";
}

// A test of a job, or null where every job passes.
export function matcher(filter) {
  const tests = [];
  const states = GROUPS.find(({ id }) => id === filter.group)?.states;
  if (states) tests.push((job) => states.includes(job.state));
  if (filter.type) tests.push((job) => job.job_type === filter.type);
  if (filter.account) tests.push((job) => job.account_id === filter.account);
  if (filter.host) tests.push((job) => sameHost(job.gitlab_host, filter.host));
  if (filter.root) tests.push((job) => job.root_id === filter.root || job.id === filter.root);
  if (filter.tag) tests.push((job) => Array.isArray(job.tags) && job.tags.includes(filter.tag));
  if (filter.tops) tests.push((job) => !job.parent_id);
  const words = filter.q.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length > 0) tests.push((job) => words.every((word) => textOf(job).includes(word)));
  return tests.length === 0 ? null : (job) => tests.every((test) => test(job));
}

function sameHost(url, wanted) {
  return url === wanted || hostOf(url) === hostOf(wanted);
}

function textOf(job) {
  return [
    job.id,
    job.web_app_job_id,
    job.entity_id,
    job.entity_name,
    job.namespace_path,
    job.account_id,
    job.gitlab_host,
  ]
    .filter(Boolean)
    .join("\n")
    .toLowerCase();
}

// Parameters of `GET /jobs`.
export function queryOf(filter) {
  const states = GROUPS.find(({ id }) => id === filter.group)?.states;
  const statuses = states
    ? [...new Set(states.map((state) => (state === "delayed" ? "queued" : state)))].join(",")
    : null;
  return {
    status: statuses,
    job_type: filter.type,
    account_id: filter.account,
    gitlab_host: filter.host,
    root_id: filter.root,
    tag: filter.tag,
    q: filter.q,
  };
}

// The fields for it.
export function chooser(filter, changed) {
  const text = (name, label, list) =>
    h(
      "label",
      { class: "mini" },
      h("span", {}, label),
      h("input", {
        type: "text",
        value: filter[name],
        autocomplete: "off",
        spellcheck: "false",
        list,
        on: { change: (event) => changed({ [name]: event.target.value.trim() }) },
      }),
    );
  const type = h(
    "label",
    { class: "mini" },
    h("span", {}, "Type"),
    h(
      "select",
      { on: { change: (event) => changed({ type: event.target.value }) } },
      h("option", { value: "" }, "Any"),
      TYPES.map(({ id, label }) => h("option", { value: id, selected: filter.type === id }, label)),
    ),
  );
  const tops = h(
    "label",
    { class: "mini check" },
    h("input", {
      type: "checkbox",
      checked: filter.tops,
      on: { change: (event) => changed({ tops: event.target.checked }) },
    }),
    h("span", {}, "Submitted only"),
  );
  const root = filter.root && h("span", { class: "mini tree-of" }, `In the tree of ${clean(filter.root).slice(-12)}`);
  const set = ["type", "account", "host", "tag"].filter((name) => filter[name]).length;
  return h(
    "details",
    { class: "more", open: set > 0 },
    h("summary", {}, "More filters", root ? [" · ", root] : null),
    h(
      "div",
      { class: "more-fields" },
      type,
      text("account", "Account"),
      text("host", "Host"),
      text("tag", "Tag"),
      text("root", "Tree of (id of its top)"),
      tops,
    ),
  );
}
