import assert from "node:assert/strict";
import test from "node:test";
import {
    addErrors,
    addJobs,
    apply,
    countsOf,
    create,
    ERRORS_MAX,
    EVENT_NAMES,
    JOBS_MAX,
    JOBS_SLACK,
    LOG_MAX,
    serverNow,
    takeChanges,
} from "../../server/assets/state.js";

const id = (number) => `0197-${String(number).padStart(8, "0")}`;
const at = (number) => new Date(Date.UTC(2026, 10, 21) + number * 1000).toISOString();
const job = (number, more = {}) => ({
    id: id(number),
    status: "queued",
    state: "queued",
    attempt: 0,
    created_at: at(number),
    updated_at: at(number),
    progress: null,
    ...more,
});
const begun = (...jobs) => {
    const state = create();
    apply(state, "snapshot", { jobs, at: at(0) }, 0);
    takeChanges(state);
    return state;
};

test("a snapshot replaces everything, newest first", () => {
    const state = begun(job(2), job(1));
    apply(state, "snapshot", { jobs: [job(9), job(8)], at: at(9) }, 0);
    assert.deepEqual(state.order, [id(9), id(8)]);
    assert.equal(state.jobs.size, 2);
    assert.ok(takeChanges(state).topics.has("snapshot"));
});

test("jobs find their place whenever they come", () => {
    const state = begun(job(5), job(3));
    for (const number of [4, 9, 1]) apply(state, "job", job(number), 0);
    assert.deepEqual(state.order, [9, 5, 4, 3, 1].map(id));
});

test("only what changed is told", () => {
    const state = begun(job(2), job(1));
    apply(state, "job", job(1, { state: "running", status: "running", attempt: 1 }), 0);
    const changes = takeChanges(state);
    assert.deepEqual([...changes.jobs], [id(1)]);
    assert.equal(changes.order, false);
    assert.equal(takeChanges(state).jobs.size, 0);
});

test("progress of an attempt that is over changes nothing", () => {
    const state = begun(job(1, { attempt: 2, state: "running", status: "running" }));
    apply(state, "progress", { job_id: id(1), attempt: 1, completion: 0.9 }, 0);
    assert.equal(state.jobs.get(id(1)).progress, null);
    apply(state, "progress", { job_id: id(1), attempt: 2, completion: 0.1 }, 0);
    assert.equal(state.jobs.get(id(1)).progress.completion, 0.1);
});

test("a report that overtook the event of its job is kept", () => {
    const state = begun(job(1, { attempt: 1, state: "running" }));
    apply(state, "progress", { job_id: id(1), attempt: 1, completion: 0.5, updated_at: at(10) }, 0);
    apply(
        state,
        "job",
        job(1, { attempt: 1, state: "running", progress: { attempt: 1, completion: 0.2, updated_at: at(5) } }),
        0,
    );
    assert.equal(state.jobs.get(id(1)).progress.completion, 0.5);
    apply(state, "job", job(1, { attempt: 2, state: "running" }), 0);
    assert.equal(state.jobs.get(id(1)).progress, null, "another attempt begins anew");
});

test("an old page does not overwrite what the stream told", () => {
    const state = begun(job(1, { state: "completed", status: "completed", updated_at: at(9) }));
    addJobs(state, [job(1, { updated_at: at(2) }), job(0)]);
    assert.equal(state.jobs.get(id(1)).state, "completed");
    assert.deepEqual(state.order, [id(1), id(0)]);
});

test("a deleted job goes", () => {
    const state = begun(job(2), job(1));
    apply(state, "deleted", { job_id: id(2) }, 0);
    assert.deepEqual(state.order, [id(1)]);
    assert.ok(takeChanges(state).jobs.has(id(2)));
});

test("jobs, log and errors are bounded; the oldest of the ended go first", () => {
    const state = begun();
    const all = JOBS_MAX + JOBS_SLACK + 1;
    for (let number = 0; number < all; number += 1) {
        const ended = number >= 10 && number < 1000;
        apply(state, "job", job(number, ended ? { state: "completed", status: "completed" } : {}), 0);
    }
    assert.equal(state.jobs.size, JOBS_MAX);
    assert.equal(state.order.length, JOBS_MAX);
    assert.ok(state.jobs.has(id(0)), "what has not ended stays");
    assert.ok(!state.jobs.has(id(10)), "the oldest that ended is gone");
    assert.ok(state.partial);
    assert.equal(state.log.length, LOG_MAX);
    addErrors(
        state,
        Array.from({ length: 1000 }, (_, number) => ({ id: number, at: at(number) })),
    );
    assert.equal(state.errors.length, ERRORS_MAX);
    assert.equal(state.errors[0].id, 999);
});

test("counts are the server's where it tells, else of the jobs that are here", () => {
    const state = begun(job(2), job(1, { state: "running", status: "running" }));
    assert.deepEqual(countsOf(state), { counts: { queued: 1, running: 1 }, all: 2, whose: "page" });
    apply(state, "statistics", { counts: { queued: 700, running: 3 }, at: at(1) }, 0);
    assert.equal(countsOf(state).all, 703);
    assert.equal(countsOf(state).whose, "server");
});

test("crawlers, gates and errors come and go", () => {
    const state = begun();
    apply(state, "crawler", { id: "a", state: "active" }, 5);
    assert.equal(state.crawlers.get("a").heard, 5);
    apply(state, "crawler", { id: "a", gone: true }, 6);
    assert.equal(state.crawlers.size, 0);
    apply(state, "gate", { kind: "host", gitlab_host: "https://x", closed: true }, 0);
    assert.equal(state.gates.size, 1);
    apply(state, "gate", { kind: "host", gitlab_host: "https://x", closed: false }, 0);
    assert.equal(state.gates.size, 0);
    apply(state, "error", { id: 1, code: "x", severity: "low", at: at(0) }, 0);
    apply(state, "error", { id: 1, code: "x", severity: "low", at: at(0) }, 0);
    assert.equal(state.errors.length, 1);
});

test("marks that are passed at once are one line of the log", () => {
    const state = begun(job(1));
    for (const percent of [25, 50, 75]) apply(state, "milestone", { job_id: id(1), percent, entity: null }, 0);
    assert.equal(state.log.length, 1);
    assert.equal(state.log[0].percent, 75);
});

test("time is the server's", () => {
    const state = begun();
    apply(state, "heartbeat", { at: "2026-11-21T10:00:00.000Z" }, Date.parse("2026-11-21T09:00:00Z"));
    assert.equal(serverNow(state, Date.parse("2026-11-21T09:00:05Z")), Date.parse("2026-11-21T10:00:05Z"));
});

test("what is no event changes nothing, whatever its name", () => {
    const state = begun(job(1));
    for (const name of ["toString", "__proto__", "constructor", "nonsense"])
        assert.equal(apply(state, name, {}, 0), false);
    for (const data of [null, 7, "x", []]) assert.equal(apply(state, "job", data, 0), false);
    for (const name of EVENT_NAMES) apply(state, name, {}, 0);
    assert.ok(!state.jobs.has(undefined));
});
