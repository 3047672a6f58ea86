// One entry of the live log as a line.

import { part } from "./api.js";
import { stateBadge, tag } from "./badge.js";
import { foreign, h } from "./dom.js";
import { clean, clock, count } from "./format.js";
import { entityName, nameOf } from "./words.js";

export const KINDS = [
  { id: "job", label: "States", events: ["job", "deleted"] },
  {
    id: "work",
    label: "Work",
    events: ["state", "entity_discovered", "entity_completed", "milestone", "tree_milestone"],
  },
  { id: "trouble", label: "Trouble", events: ["error", "stalled", "resync"] },
  { id: "crawlers", label: "Crawlers and gates", events: ["crawler", "gate"] },
];

export function lineOf(entry) {
  return h(
    "li",
    { "data-event": entry.event },
    h("time", { class: "num quiet", datetime: new Date(entry.at).toISOString() }, clock(entry.at)),
    h("div", {}, wordsOf(entry)),
  );
}

function jobOf(entry) {
  if (!entry.job) return null;
  const name = entry.about ? nameOf(entry.about) : String(entry.job).slice(-12);
  return h("a", { href: `#/jobs/${part(entry.job)}` }, foreign(name, { max: 80 }));
}

// What is searched for words.
export function textOf(entry) {
  return clean(
    [entry.event, entry.job, entry.about && nameOf(entry.about), entry.code, entry.message, entry.crawler, entry.to]
      .filter(Boolean)
      .join(" "),
  ).toLowerCase();
}

function wordsOf(entry) {
  const job = jobOf(entry);
  switch (entry.event) {
    case "job":
      return [
        job,
        " ",
        stateBadge(entry.to),
        entry.from ? h("span", { class: "quiet small" }, ` was ${entry.from}`) : null,
      ];
    case "deleted":
      return [job, " was deleted"];
    case "state":
      return [job, h("span", { class: "quiet" }, ` ${entry.from} → `), clean(entry.to)];
    case "entity_discovered":
      return [job, " found ", foreign(entityName(entry.entity), { max: 80 })];
    case "entity_completed":
      return [job, " is through with ", foreign(entityName(entry.entity), { max: 80 })];
    case "milestone":
      return [
        job,
        " passed ",
        tag(`${count(entry.percent)} %`, "good"),
        entry.entity ? [" of ", foreign(entityName(entry.entity), { max: 80 })] : null,
      ];
    case "tree_milestone":
      return ["The tree of ", job, " passed ", tag(`${count(entry.percent)} %`, "good")];
    case "stalled":
      return [tag("stalled", "bad"), " ", job];
    case "error":
      return [
        tag(clean(entry.severity), entry.severity === "low" ? "plain" : "bad"),
        " ",
        h("code", {}, foreign(entry.code, { max: 60 })),
        " ",
        job,
        " ",
        foreign(entry.message, { max: 240, className: "quiet" }),
      ];
    case "crawler":
      return [
        h("a", { href: `#/crawlers?id=${part(entry.crawler)}` }, foreign(entry.crawler, { max: 80 })),
        entry.what === "came" ? " connected" : entry.what === "left" ? " left" : ` is ${clean(entry.to)}`,
      ];
    case "gate":
      return [
        "The gate ",
        foreign([entry.gate.kind, entry.gate.account_id, entry.gate.gitlab_host].filter(Boolean).join(" "), {
          max: 160,
        }),
        ` is ${entry.to}`,
      ];
    case "resync":
      return ["This page fell behind, and began anew: ", clean(entry.reason)];
    default:
      return [clean(entry.event)];
  }
}
