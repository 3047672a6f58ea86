import assert from "node:assert/strict";
import test from "node:test";
import {
    ago,
    brief,
    bytes,
    clean,
    cleanLines,
    cut,
    percent,
    points,
    range,
    rate,
    span,
} from "../../server/assets/format.js";

test("whole percents are rounded down, so that 100 means through", () => {
    assert.equal(percent(0.999), "99 %");
    assert.equal(percent(1), "100 %");
    assert.equal(points(0.29), 29);
    assert.equal(points(7), 100);
    assert.equal(points(-1), 0);
    assert.equal(percent(null), "–");
    assert.equal(percent(NaN), "–");
});

test("spans and ranges are in words", () => {
    assert.equal(span(0), "0 s");
    assert.equal(span(400), "under 1 s");
    assert.equal(span(59600), "1 min");
    assert.equal(span(200000), "3 min 20 s");
    assert.equal(span(3 * 3600 * 1000), "3 h");
    assert.equal(span(26.5 * 3600 * 1000), "1 d 2 h");
    assert.equal(range(12 * 60000, 18 * 60000), "12 to 18 min");
    assert.equal(range(50000, 120000), "50 s to 2 min");
    assert.equal(range(60000, 61000), "about 1 min");
    assert.equal(range(0, 0), "under 1 s");
});

test("times are told from now", () => {
    assert.equal(ago("2026-11-21T10:00:00.000Z", Date.parse("2026-11-21T10:05:00Z")), "5 min ago");
    assert.equal(ago("2026-11-21T10:00:00.000Z", Date.parse("2026-11-21T10:00:01Z")), "just now");
    assert.equal(ago("2026-11-21T10:10:00.000Z", Date.parse("2026-11-21T10:00:00Z")), "in 10 min");
    assert.equal(ago("nonsense", 0), "–");
});

test("numbers stay short", () => {
    assert.equal(brief(9999), "9,999");
    assert.equal(brief(12345), "12.3k");
    assert.equal(brief(999999), "999.9k");
    assert.equal(brief(4.5e6), "4.5M");
    assert.equal(rate(0.05), "3/min");
    assert.equal(rate(1.25), "1.3/s");
    assert.equal(bytes(2048), "2 KiB");
});

test("what cannot be seen is made visible", () => {
    assert.equal(clean("a\u202egnp.exe"), "a⟨U+202E⟩gnp.exe");
    assert.equal(clean("a\u0000b\u001bc"), "a⟨U+0000⟩b⟨U+001B⟩c");
    assert.equal(clean("two\r\nlines"), "two lines");
    assert.equal(cleanLines("two\r\nlines\u2066"), "two\nlines⟨U+2066⟩");
    assert.equal(clean("\ud800 half"), "\ufffd half");
    assert.equal(clean({ a: 1 }), '{"a":1}');
    assert.equal(clean(null), "");
    // Languages written from the right, and joined emoji, are left alone.
    assert.equal(clean("שלום مرحبا 👩‍💻"), "שלום مرحبا 👩‍💻");
});

test("a cut leaves no half of a character", () => {
    assert.equal(cut("abc", 3), "abc");
    assert.equal(cut("abcd", 3), "abc…");
    assert.ok(!/[\ud800-\udbff](?![\udc00-\udfff])/.test(cut("😀".repeat(50), 7)));
});
