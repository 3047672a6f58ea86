// The counters of a job: what was found, what is processed, and what the totals are worth.

import { FiguredBar } from "./bar.js";
import { h, keyed, setForeign, setHidden, setText } from "./dom.js";
import { count } from "./format.js";
import { entityName, itemsOf, TOTAL_KINDS } from "./words.js";
import { setAttribute } from "./dom.js";

export class JobEntities {
  constructor() {
    this.body = h("tbody");
    this.count = h("span", { class: "quiet num" });
    this.element = h(
      "section",
      { class: "card flush", "aria-labelledby": "entities-title", hidden: true },
      h("div", { class: "card-head" }, h("h2", { id: "entities-title" }, "Entities"), this.count),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "entities-title" },
        h(
          "table",
          { class: "entities" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              ["Entity", "Processed", "Completion", "Passed"].map((name) => h("th", { scope: "col" }, name)),
            ),
          ),
          this.body,
        ),
      ),
    );
  }

  changed() {}

  draw(job) {
    const entities = Array.isArray(job.progress?.entities) ? job.progress.entities : [];
    setHidden(this.element, entities.length === 0);
    setText(this.count, count(entities.length));
    keyed(
      this.body,
      entities,
      (entity) => `${entity.entity_type}\u0000${entity.sub_collection ?? ""}`,
      () => new EntityRow(),
      (row, entity) => row.write(entity, job),
    );
  }
}

class EntityRow {
  constructor() {
    this.name = h("bdi", { dir: "auto" });
    this.status = h("span", { class: "quiet small" });
    this.items = h("td", { class: "num" });
    this.bar = new FiguredBar();
    this.mark = h("td", { class: "num quiet" });
    this.element = h(
      "tr",
      {},
      h("th", { scope: "row" }, h("span", { class: "cut entity-name" }, this.name), this.status),
      this.items,
      h("td", { class: "entity-bar" }, this.bar.element),
      this.mark,
    );
  }

  write(entity, job) {
    const name = entityName(entity);
    const open = entity.total?.kind === "at_least" || entity.total?.kind === "unknown";
    setForeign(this.name, name, 200);
    setText(this.status, entity.status ?? "");
    setText(this.items, itemsOf(entity.done, entity.total, "").trim());
    setAttribute(
      this.items,
      "title",
      TOTAL_KINDS[entity.total?.kind] ? `The total is ${TOTAL_KINDS[entity.total.kind]}` : null,
    );
    const tone = entity.status === "completed" ? "completed" : job.state === "running" ? "running" : "queued";
    this.bar.set({
      share: entity.completion,
      open: open && job.state === "running",
      tone,
      label: `Progress of ${name}`,
      text: entity.completion === null ? "total still open" : undefined,
    });
    setText(this.mark, entity.milestone > 0 ? `${entity.milestone} %` : "");
  }
}
