import assert from "node:assert/strict";
import test from "node:test";
import { attemptsOf } from "../../server/assets/attempts.js";
import { filterOf, hashOf, matcher, queryOf } from "../../server/assets/jobs-filter.js";
import { bodyOf, placeOf } from "../../server/assets/submit-fields.js";
import {
    barText,
    completionOf,
    isOpenEnded,
    itemsOf,
    nameOf,
    remaining,
    stateOf,
    trouble,
} from "../../server/assets/words.js";

const running = (progress) => ({
    id: "0197-0001",
    job_type: "crawl_project",
    status: "running",
    state: "running",
    attempt: 1,
    progress,
});

test("ours counts where there are counts, else the crawler's word", () => {
    const entities = [{ entity_type: "issues" }];
    assert.deepEqual(completionOf(running({ completion: 0.4, overall_completion: 0.8, entities })), {
        share: 0.4,
        whose: "ours",
    });
    assert.deepEqual(completionOf(running({ completion: 0, overall_completion: 0.8, entities: [] })), {
        share: 0.8,
        whose: "crawler",
    });
    assert.equal(completionOf(running(null)), null);
    assert.deepEqual(completionOf({ status: "completed", progress: null }), { share: 1, whose: "ours" });
});

test("a bar says what it shows", () => {
    const entities = [{ entity_type: "issues" }];
    assert.equal(
        barText(running({ completion: 0.4, entities, discovering: true, activity: "stalled" })),
        "40 %, still discovering, stalled",
    );
    assert.equal(barText(running(null)), "running, nothing reported yet");
    assert.equal(barText({ ...running(null), state: "queued" }), "nothing reported");
    assert.ok(isOpenEnded(running({ discovering: true })));
    assert.ok(!isOpenEnded(running({ discovering: false })));
});

test("totals say what they are worth", () => {
    assert.equal(itemsOf(5, { items: 10, kind: "known" }), "5 of 10 items");
    assert.equal(itemsOf(5, { items: 10, kind: "estimate" }), "5 of about 10 items");
    assert.equal(itemsOf(5, { items: 10, kind: "at_least" }), "5 of at least 10 items");
    assert.equal(itemsOf(0, { items: 0, kind: "unknown" }), "0 items, total unknown");
});

test("the end is a range, or a reason", () => {
    assert.equal(
        remaining({ low_ms: 60000, high_ms: 180000, low_at: "", likely_at: "", high_at: "", confidence: "low" }).text,
        "1 to 3 min left",
    );
    assert.equal(remaining({ none: "total_open" }).text, "cannot tell while more is being found");
    assert.equal(remaining({ none: "toString" }).text, "no estimate");
    assert.equal(remaining(null).text, "no estimate");
});

test("states, wishes and trouble", () => {
    assert.equal(stateOf({ state: "running", want: { want: "cancel" } }), "cancelling");
    assert.equal(stateOf({ state: "something new" }), "unknown");
    assert.equal(trouble(running({ activity: "running" })), null);
    assert.equal(trouble(running({ activity: "lost" })).word, "lost");
    assert.equal(trouble({ state: "paused", pause_reason: "quarantined" }).word, "quarantined");
});

test("jobs have a name", () => {
    assert.equal(nameOf({ id: "0197-00000001", job_type: "crawl_user" }), "Crawl a user 00000001");
    assert.equal(
        nameOf({
            id: "x",
            web_app_job_id: "x",
            job_type: "discover_namespaces",
            gitlab_host: "https://git.example.com",
        }),
        "Discovery of git.example.com",
    );
    assert.equal(nameOf({ id: "x", web_app_job_id: "mine", job_type: "crawl_user" }), "mine");
});

test("a filter is an address, a test and parameters", () => {
    const filter = filterOf(new URLSearchParams("state=active&account=a%26b&q=One two"));
    assert.equal(hashOf(filter), "#/jobs?state=active&q=One+two&account=a%26b");
    const matches = matcher(filter);
    const job = { id: "1", state: "running", account_id: "a&b", namespace_path: "two/ONE" };
    assert.ok(matches(job));
    assert.ok(!matches({ ...job, state: "queued" }));
    assert.ok(!matches({ ...job, account_id: "a" }));
    assert.ok(!matches({ ...job, namespace_path: "two" }));
    assert.equal(queryOf(filter).status, "running,assigned");
    assert.equal(queryOf(filterOf(new URLSearchParams("state=waiting"))).status, "queued");
    assert.equal(matcher(filterOf(new URLSearchParams("state=nonsense"))), null);
});

test("attempts are read from the history", () => {
    const event = (at, arrows, state, attempt, session = "s") => ({
        type: "event",
        at: `2026-11-21T10:00:${at}Z`,
        arrows,
        state,
        attempt,
        session,
    });
    const attempts = attemptsOf([
        event("00", ["submit"], "queued", 0),
        event("01", ["claim"], "assigned", 0),
        event("02", ["start"], "running", 1),
        { type: "milestone", at: "x" },
        event("05", ["finish"], "delayed", 1),
        event("06", ["promote"], "queued", 1),
        event("07", ["claim"], "assigned", 1),
        event("08", ["start", "finish"], "completed", 2),
    ]);
    assert.deepEqual(
        attempts.map(({ number, end, began, ended }) => [number, end, ended - began]),
        [
            [1, "delayed", 3000],
            [2, "completed", 0],
        ],
    );
});

test("a submission has what was filled in", () => {
    const { body, errors } = bodyOf({
        job_type: "crawl_project",
        gitlab_host: " git.example.com ",
        account_id: "me",
        priority: "2.5",
        tags: "a, b,,",
        metadata: '{"x":1}',
        resume: true,
        labels: "",
    });
    assert.deepEqual(errors, []);
    assert.deepEqual(body, {
        job_type: "crawl_project",
        gitlab_host: "git.example.com",
        account_id: "me",
        priority: 2.5,
        tags: ["a", "b"],
        metadata: { x: 1 },
        resume: true,
    });
    const wrong = bodyOf({ job_type: "crawl_project", metadata: "[1]", retry_attempts: "many" }).errors.map(
        ({ path }) => path,
    );
    assert.deepEqual(wrong, ["/gitlab_host", "/account_id", "/retry_attempts", "/metadata"]);
    assert.equal(placeOf("/tags/0"), "tags");
});
