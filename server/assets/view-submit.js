// Submitting a job: the few fields that everybody needs, and the others behind a fold.

import { part, post } from "./api.js";
import { h, setAttribute, setHidden, setText } from "./dom.js";
import { recall, remember } from "./prefs.js";
import { FIELDS, bodyOf, placeOf } from "./submit-fields.js";
import { toast } from "./toast.js";
import { clean } from "./format.js";
import { TYPES } from "./words.js";

export default function submit(main, context) {
  return new SubmitView(main, context);
}

class SubmitView {
  constructor(main, { store, route }) {
    this.title = "Submit a job";
    this.store = store;
    this.inputs = new Map();
    this.notes = new Map();
    this.given = route.query;
    this.summary = h("div", { class: "note", "data-tone": "bad", role: "alert", tabindex: "-1", hidden: true });
    this.button = h("button", { type: "submit", class: "button primary large" }, "Submit");
    const more = FIELDS.filter((field) => field.more);
    this.fold = h(
      "details",
      { class: "fold" },
      h("summary", {}, "More settings"),
      h(
        "div",
        { class: "form-grid" },
        more.map((field) => this.field(field)),
      ),
    );
    this.form = h(
      "form",
      { class: "card form", novalidate: true, autocomplete: "off", on: { submit: (event) => this.submit(event) } },
      this.summary,
      this.types(),
      h(
        "div",
        { class: "form-grid" },
        FIELDS.filter((field) => !field.more).map((field) => this.field(field)),
      ),
      this.lists(),
      this.fold,
      h(
        "div",
        { class: "form-acts" },
        this.button,
        h("p", { class: "quiet small" }, "The job waits until a crawler takes it. You are shown how it goes."),
      ),
    );
    main.append(h("div", { class: "view-head" }, h("h1", {}, "Submit a job")), this.form);
    this.about();
  }

  types() {
    const chosen = TYPES.some(({ id }) => id === this.given.get("type"))
      ? this.given.get("type")
      : "discover_namespaces";
    return h(
      "fieldset",
      { class: "types" },
      h("legend", {}, "What to do"),
      TYPES.map(({ id, label, says }) => {
        const input = h("input", {
          type: "radio",
          name: "job_type",
          value: id,
          checked: id === chosen,
          on: { change: () => this.about() },
        });
        return h(
          "label",
          { class: "type" },
          input,
          h("span", {}, h("strong", {}, label), h("span", { class: "quiet small" }, says)),
        );
      }),
    );
  }

  get type() {
    return this.form.querySelector("[name=job_type]:checked").value;
  }

  // What a type needs to be told.
  about() {
    const needs = this.type !== "discover_namespaces";
    setText(this.notes.get("entity_id").label, needs ? "Entity id" : "Entity id (not needed)");
    setText(this.notes.get("namespace_path").label, needs ? "Path" : "Path (not needed)");
  }

  field(field) {
    const id = `submit-${field.name}`;
    const hint = field.hint ? h("span", { class: "hint", id: `${id}-hint` }, field.hint) : null;
    const wrong = h("span", { class: "wrong", id: `${id}-wrong`, hidden: true });
    const common = {
      id,
      name: field.name,
      "aria-describedby": [hint && `${id}-hint`, `${id}-wrong`].filter(Boolean).join(" "),
      required: field.required,
      autocomplete: field.kind === "password" ? "new-password" : "off",
      spellcheck: "false",
      list: field.list,
    };
    const given =
      this.given.get(field.name) ??
      (field.keeps ? recall(`submit.${field.name}`, field.value ?? "") : (field.value ?? ""));
    const input =
      field.kind === "select"
        ? h(
            "select",
            common,
            field.options.map(([key, text]) => h("option", { value: key, selected: key === given }, text)),
          )
        : field.kind === "area"
          ? h("textarea", { ...common, rows: 4, value: given })
          : field.kind === "check"
            ? h("input", { ...common, type: "checkbox" })
            : h("input", {
                ...common,
                type: field.kind ?? "text",
                value: given,
                step: field.step,
                placeholder: field.placeholder,
              });
    const label = h("label", { for: id }, field.label);
    this.inputs.set(field.name, input);
    this.notes.set(field.name, { wrong, label });
    input.addEventListener("input", () => this.clear(field.name));
    return h(
      "div",
      { class: `field ${field.kind === "check" ? "check" : ""} ${field.wide ? "wide" : ""}` },
      field.kind === "check" ? [input, label] : [label, input],
      hint,
      wrong,
    );
  }

  // Names that are known here, to choose from.
  lists() {
    const [accounts, hosts] = [new Set(), new Set()];
    for (const job of this.store.state.jobs.values()) {
      if (accounts.size < 50) accounts.add(job.account_id);
      if (hosts.size < 50) hosts.add(job.gitlab_host);
    }
    const list = (id, names) =>
      h(
        "datalist",
        { id },
        [...names].map((name) => h("option", { value: name })),
      );
    return [list("known-accounts", accounts), list("known-hosts", hosts)];
  }

  clear(name) {
    setHidden(this.notes.get(name).wrong, true);
    setAttribute(this.inputs.get(name), "aria-invalid", null);
  }

  wrong(name, message) {
    const { wrong } = this.notes.get(name);
    setText(wrong, message);
    setHidden(wrong, false);
    setAttribute(this.inputs.get(name), "aria-invalid", "true");
    if (this.fold.contains(this.inputs.get(name))) this.fold.open = true;
  }

  async submit(event) {
    event.preventDefault();
    for (const name of this.inputs.keys()) this.clear(name);
    const values = Object.fromEntries(
      [...this.inputs].map(([name, input]) => [name, input.type === "checkbox" ? input.checked : input.value]),
    );
    const { body, errors } = bodyOf({ ...values, job_type: this.type });
    if (errors.length > 0) return this.refused("Some fields need another look.", errors);
    this.button.disabled = true;
    try {
      const job = await post("jobs", body, { headers: this.onceOnly(body) });
      for (const field of FIELDS.filter(({ keeps }) => keeps))
        remember(`submit.${field.name}`, values[field.name].trim());
      toast("The job was submitted.", { tone: "good" });
      window.location.hash = `#/jobs/${part(job.id)}`;
    } catch (problem) {
      this.refused(problem.message, problem.errors);
    }
    this.button.disabled = false;
  }

  // Sent again after a lost answer, the same job is not made twice. Pages beyond this machine without TLS cannot make names.
  onceOnly(body) {
    const text = JSON.stringify(body);
    if (this.sent?.text !== text) this.sent = { text, key: globalThis.crypto?.randomUUID?.() };
    return this.sent.key ? { "idempotency-key": this.sent.key } : {};
  }

  refused(message, errors) {
    const elsewhere = [];
    for (const { path, message: says } of errors) {
      const name = placeOf(path);
      if (this.notes.has(name)) this.wrong(name, clean(says));
      else elsewhere.push(`${clean(path)}: ${clean(says)}`);
    }
    this.summary.replaceChildren(
      h("p", {}, message),
      elsewhere.length > 0
        ? h(
            "ul",
            { class: "rows" },
            elsewhere.map((line) => h("li", {}, line)),
          )
        : "",
    );
    setHidden(this.summary, false);
    const first = this.form.querySelector("[aria-invalid=true]");
    (first ?? this.summary).focus();
  }
}
