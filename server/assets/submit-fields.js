// The fields of a submission, and the body that becomes of them. Pure.

export const FIELDS = [
  {
    name: "gitlab_host",
    label: "Host",
    required: true,
    keeps: true,
    list: "known-hosts",
    placeholder: "gitlab.example.com",
    hint: "A name or a URL. The example crawler serves localhost.",
  },
  {
    name: "account_id",
    label: "Account",
    required: true,
    keeps: true,
    list: "known-accounts",
    placeholder: "me",
    hint: "Whose job it is. A new account is made when it is not known.",
  },
  { name: "entity_id", label: "Entity id", hint: "The user, group or project." },
  { name: "namespace_path", label: "Path", placeholder: "group/project" },
  {
    name: "access_token",
    label: "Access token",
    kind: "password",
    hint: "Kept sealed, and used for all jobs of this account on this host. Leave it empty to use the one that is there.",
  },
  {
    name: "priority",
    label: "Priority",
    kind: "number",
    step: "any",
    value: "",
    placeholder: "1",
    hint: "Higher runs first; one point is worth a minute of waiting.",
  },
  { name: "web_app_job_id", label: "Name of your own", more: true, hint: "Unique over all jobs." },
  { name: "run_at", label: "Not before", kind: "datetime-local", more: true },
  {
    name: "provider",
    label: "Provider",
    kind: "select",
    more: true,
    options: [
      ["", "not said"],
      ["gitlab-onprem", "gitlab-onprem"],
      ["gitlab-cloud", "gitlab-cloud"],
    ],
  },
  { name: "labels", label: "Labels", more: true, hint: "Words its crawler must have, separated by commas." },
  { name: "tags", label: "Tags", more: true, hint: "Separated by commas." },
  { name: "user_id", label: "On behalf of user", more: true },
  { name: "created_by_user_id", label: "Submitted by user", more: true },
  {
    name: "job_timeout_ms",
    label: "Time limit in ms",
    kind: "number",
    more: true,
    hint: "Otherwise as the server is set.",
  },
  { name: "retry_attempts", label: "Retries", kind: "number", more: true },
  { name: "retry_delay_ms", label: "Delay of retries in ms", kind: "number", more: true },
  {
    name: "metadata",
    label: "Metadata",
    kind: "area",
    more: true,
    wide: true,
    hint: "A JSON object, given back as it is.",
  },
  { name: "resume", label: "Go on where an earlier crawl stopped", kind: "check", more: true },
];

const NUMBERS = new Set(["priority", "job_timeout_ms", "retry_attempts", "retry_delay_ms"]);
const LISTS = new Set(["labels", "tags"]);

// The body of a request, and what the server need not be asked for. What is empty is left out.
export function bodyOf(values) {
  const body = { job_type: values.job_type };
  const errors = [];
  for (const { name, required } of FIELDS) {
    const value = values[name];
    if (typeof value === "boolean") {
      if (value) body[name] = true;
      continue;
    }
    const text = String(value ?? "").trim();
    if (text === "") {
      if (required) errors.push({ path: `/${name}`, message: "This is needed." });
      continue;
    }
    try {
      body[name] = valueOf(name, text);
    } catch (error) {
      errors.push({ path: `/${name}`, message: error.message });
    }
  }
  return { body, errors };
}

function valueOf(name, text) {
  if (NUMBERS.has(name)) {
    if (!Number.isFinite(Number(text))) throw new Error("This is no number.");
    return Number(text);
  }
  if (LISTS.has(name))
    return text
      .split(",")
      .map((word) => word.trim())
      .filter(Boolean);
  if (name === "run_at") {
    const time = new Date(text);
    if (Number.isNaN(time.getTime())) throw new Error("This is no time.");
    return time.toISOString();
  }
  if (name !== "metadata") return text;
  let read;
  try {
    read = JSON.parse(text);
  } catch {
    throw new Error("This is no JSON.");
  }
  if (typeof read !== "object" || read === null || Array.isArray(read))
    throw new Error("This must be a JSON object: {…}.");
  return read;
}

// The field that a pointer of the server names: `/tags/0` is `tags`.
export function placeOf(path) {
  return String(path).split("/")[1] ?? "";
}
