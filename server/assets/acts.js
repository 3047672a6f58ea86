// What people can do with a job: which acts its state allows, what is asked before, and the request.

import { part, post, put, remove } from "./api.js";
import { ask } from "./dialog.js";
import { clean, cut, plural } from "./format.js";
import { recall, remember } from "./prefs.js";
import { toast, toastProblem } from "./toast.js";
import { ENDED, nameOf } from "./words.js";

const NAME_FIELD = () => ({
  name: "by",
  label: "Your name, for the record",
  value: recall("name", ""),
  hint: "Optional. It is kept in this browser.",
  attributes: { maxlength: 200 },
});

const ACTS = [
  {
    name: "pause",
    label: "Pause",
    allowed: (job) => !ENDED.has(job.status) && job.state !== "paused" && !job.want,
    says: (job) =>
      job.session
        ? "Its crawler is told to stop and keeps what it did. The job waits until it is resumed."
        : "The job waits until it is resumed.",
  },
  {
    name: "resume",
    label: "Resume",
    primary: true,
    allowed: (job) => (job.state === "paused" && job.pause_reason !== "quarantined") || job.want?.want === "pause",
    says: () => "The job goes on.",
  },
  {
    name: "retry",
    label: "Retry",
    primary: true,
    allowed: (job) => job.status === "failed" || job.status === "cancelled",
    says: () => "The job goes into the queue again with a clean slate of failures. What was done is not done again.",
  },
  {
    name: "redrive",
    label: "Another chance",
    asks: "Give this job another chance?",
    does: "Put into the queue",
    primary: true,
    allowed: (job) => job.pause_reason === "quarantined",
    says: () => "The job goes into the queue again, as if it had never been given out.",
  },
  {
    name: "priority",
    label: "Priority",
    asks: "Change the priority?",
    does: "Change",
    allowed: (job) => !ENDED.has(job.status),
    says: () => "Higher runs first; one point is worth a minute of waiting.",
    fields: (job) => [
      {
        name: "priority",
        label: "Priority",
        asks: "Change the priority?",
        does: "Change",
        type: "number",
        value: job.priority,
        required: true,
        attributes: { step: "any" },
      },
    ],
    send: (job, { priority, by }) => put(`jobs/${part(job.id)}/priority`, { priority: Number(priority), ...by }),
  },
  {
    name: "cancel",
    label: "Cancel",
    danger: true,
    allowed: (job) => !ENDED.has(job.status) && job.want?.want !== "cancel",
    says: (job) =>
      job.session
        ? "Its crawler is told to stop. What it did is kept; the job ends."
        : "The job is not running; it ends at once.",
    fields: (job) => (job.children > 0 && !job.parent_id ? [TREE_FIELD(job)] : []),
    send: (job, { tree, by }) => post(`jobs/${part(job.id)}/cancel`, tree ? { tree: true, ...by } : by),
    done: (job, answer) => (answer?.cancelled === undefined ? null : `${plural(answer.cancelled, "job")} cancelled`),
  },
  {
    name: "cancel-tree",
    label: "Cancel the tree",
    asks: "Cancel everything below this job?",
    does: "Cancel the tree",
    danger: true,
    allowed: (job) => !job.parent_id && ENDED.has(job.status) && job.tree_status === "open",
    says: () => "Everything below this job that has not ended is cancelled.",
    send: (job, { by }) => post(`jobs/${part(job.id)}/cancel`, { tree: true, ...by }),
    done: (job, answer) => `${plural(answer?.cancelled ?? 0, "job")} cancelled`,
  },
  {
    name: "delete",
    label: "Delete",
    danger: true,
    allowed: (job) => !job.parent_id && job.tree_status !== "open",
    says: () => "The job goes with everything below it, its history and its progress. This cannot be undone.",
    send: (job, { by }) => remove(`jobs/${part(job.id)}`, by),
    done: (job, answer) => `${plural(answer?.deleted ?? 1, "job")} deleted`,
  },
];

const TREE_FIELD = (job) => ({
  name: "tree",
  label: "Cancel everything below it, too",
  type: "checkbox",
  value: false,
  hint: job.tree?.jobs ? `${plural(job.tree.jobs, "job")} below it` : null,
});

export function allowedActs(job) {
  return ACTS.filter((act) => act.allowed(job));
}

// Asks, does it, and tells. Gives the answer, or null when it was not done.
export async function perform(act, job) {
  const name = cut(clean(nameOf(job)), 80);
  const values = await ask({
    title: act.asks ?? `${act.label} this job?`,
    says: [name, act.says(job)],
    confirm: act.does ?? `${act.label} the job`,
    danger: act.danger,
    fields: [...(act.fields?.(job) ?? []), NAME_FIELD()],
  });
  if (!values) return null;
  remember("name", values.by);
  const by = values.by ? { by: values.by } : {};
  try {
    const answer = act.send
      ? await act.send(job, { ...values, by })
      : await post(`jobs/${part(job.id)}/${act.name}`, by);
    toast(act.done?.(job, answer) ?? `${act.label}: done`, { tone: "good" });
    return answer ?? {};
  } catch (problem) {
    toastProblem(problem);
    return null;
  }
}

// The same dance for acts that concern no single job.
export async function confirmAndSend({ title, says, confirm, danger, fields = [], send, done }) {
  const values = await ask({ title, says, confirm, danger, fields: [...fields, NAME_FIELD()] });
  if (!values) return null;
  remember("name", values.by);
  try {
    const answer = await send({ ...values, by: values.by ? { by: values.by } : {} });
    toast(done(answer), { tone: "good" });
    return answer ?? {};
  } catch (problem) {
    toastProblem(problem);
    return null;
  }
}
