import assert from "node:assert/strict";
import test from "node:test";
import { Live, OPEN_WITHIN_MS, RETRY_MAX_MS, SILENT_AFTER_MS } from "../../server/assets/live.js";

// A clock and a stream that do what the test says.
function bench() {
    const bench = { now: 0, sources: [], told: [], statuses: [], timeout: null, tick: null };
    bench.live = new Live({
        path: "/stream",
        names: ["snapshot", "error"],
        onEvent: (name, data) => bench.told.push([name, data]),
        onStatus: (status) => bench.statuses.push(status),
        make: (url) => {
            const source = {
                url,
                closed: false,
                listeners: {},
                addEventListener: (name, act) => (source.listeners[name] = act),
                close: () => (source.closed = true),
            };
            bench.sources.push(source);
            return source;
        },
        timers: {
            setTimeout: (act, wait) => (bench.timeout = { act, wait }),
            clearTimeout: () => (bench.timeout = null),
            setInterval: (act) => (bench.tick = act),
            clearInterval: () => {},
        },
        now: () => bench.now,
        chance: () => 0.5,
    });
    bench.live.start();
    bench.source = () => bench.sources[bench.sources.length - 1];
    bench.hears = (name, data, lastEventId = "") =>
        bench.source().listeners[name]({ data: JSON.stringify(data), lastEventId });
    bench.breaks = () => bench.source().listeners.error({});
    bench.retries = () => bench.timeout.act();
    return bench;
}

test("an event of the name error is no broken connection", () => {
    const it = bench();
    it.hears("error", { id: 1 });
    assert.equal(it.live.status.phase, "live");
    assert.deepEqual(it.told, [["error", { id: 1 }]]);
});

test("a cut is told with the moment of the last word, and attempts are counted", () => {
    const it = bench();
    it.now = 1000;
    it.hears("snapshot", {});
    it.now = 5000;
    it.breaks();
    assert.equal(it.live.status.phase, "stale");
    assert.equal(it.live.status.since, 1000);
    assert.equal(it.timeout.wait, 500);
    it.retries();
    it.breaks();
    assert.equal(it.live.status.attempts, 1);
    it.retries();
    it.breaks();
    assert.equal(it.live.status.attempts, 2);
    assert.equal(it.live.status.since, 1000, "still the last word");
    it.retries();
    it.hears("snapshot", {});
    assert.deepEqual(
        { phase: it.live.status.phase, attempts: it.live.status.attempts, since: it.live.status.since },
        { phase: "live", attempts: 0, since: null },
    );
});

test("it waits longer each time, up to a bound", () => {
    const it = bench();
    let last = 0;
    for (let attempt = 0; attempt < 12; attempt += 1) {
        it.breaks();
        assert.ok(it.timeout.wait >= last);
        last = it.timeout.wait;
        it.retries();
    }
    assert.equal(last, RETRY_MAX_MS);
});

test("it goes on behind the last event", () => {
    const it = bench();
    assert.equal(it.source().url, "/stream");
    it.hears("snapshot", {}, "r1-7");
    it.breaks();
    it.retries();
    assert.equal(it.source().url, "/stream?last_event_id=r1-7");
});

test("silence and an answer that does not come count as a cut", () => {
    const it = bench();
    it.now = OPEN_WITHIN_MS + 1;
    it.tick();
    assert.equal(it.live.status.phase, "connecting");
    assert.ok(it.sources[0].closed);
    it.retries();
    it.hears("snapshot", {});
    it.now += SILENT_AFTER_MS + 1;
    it.tick();
    assert.equal(it.live.status.phase, "stale");
});

test("what an old connection still says does not count", () => {
    const it = bench();
    const old = it.source();
    it.breaks();
    it.retries();
    old.listeners.snapshot({ data: "{}", lastEventId: "" });
    assert.deepEqual(it.told, []);
});
