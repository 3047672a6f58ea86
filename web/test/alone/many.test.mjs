// Ten thousand jobs: that the list holds them all and only rows in sight exist is asserted; times are printed, since they are of
// this machine; so it runs alone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, launch, open } from "../browser.mjs";
import { TestServer, until } from "../server.mjs";

const JOBS = Number(process.env.CRAWLWIRE_JOBS ?? 10000);
const AT_ONCE = 500;

let browser;
let server;
before(async () => {
    browser = await launch();
    server = await TestServer.start();
});
after(async () => {
    await browser?.close();
    await server?.close();
});

async function submitAll() {
    const jobs = Array.from({ length: JOBS }, (_, number) => ({
        job_type: "crawl_project",
        account_id: `account-${number % 40}`,
        gitlab_host: "gitlab.example.com",
        entity_id: String(number),
        namespace_path: `group-${number % 97}/project-${number}`,
    }));
    for (let from = 0; from < JOBS; from += AT_ONCE) {
        await server.api("POST", "jobs/batch", { jobs: jobs.slice(from, from + AT_ONCE) });
    }
}

// Long tasks since the page began, in milliseconds.
const watchTasks = () => {
    window.longTasks = [];
    new PerformanceObserver((list) =>
        window.longTasks.push(...list.getEntries().map(({ duration }) => Math.round(duration))),
    ).observe({ type: "longtask", buffered: true });
};

test(`${JOBS} jobs`, { timeout: 150000 }, async (t) => {
    const began = Date.now();
    await submitAll();
    t.diagnostic(`submitted in ${Date.now() - began} ms`);
    const page = await open(browser, server, { hash: "#/jobs", ready: false });
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Performance.enable");
    await page.addInitScript(watchTasks);
    await page.reload();
    await page.locator(".vlist .job-row").first().waitFor();
    const metrics = async () =>
        Object.fromEntries((await cdp.send("Performance.getMetrics")).metrics.map(({ name, value }) => [name, value]));
    const paint = await page.evaluate(() =>
        Math.round(performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? -1),
    );
    const rowsAt = await page.evaluate(() => Math.round(performance.now()));
    const first = await metrics();
    t.diagnostic(
        `first paint ${paint} ms, rows by ${rowsAt} ms, scripting ${Math.round(first.ScriptDuration * 1000)} ms, layout ${Math.round(first.LayoutDuration * 1000)} ms`,
    );

    // All of them, by scrolling to the end again and again.
    const scrolled = Date.now();
    await until(
        "all jobs are loaded",
        async () => {
            await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
            return (await page.locator(".jobs-table").getAttribute("aria-rowcount")) === String(JOBS + 1);
        },
        { within: 60000 },
    );
    t.diagnostic(`all ${JOBS} loaded in ${Date.now() - scrolled} ms`);
    assert.ok((await page.locator(".vlist .job-row").count()) < 60, "only rows in sight exist");

    // From end to end while jobs change.
    await page.evaluate(() => (window.longTasks = []));
    const before = await metrics();
    const busy = (async () => {
        const { items } = await server.api("GET", "jobs?limit=200");
        for (const job of items) await server.api("PUT", `jobs/${job.id}/priority`, { priority: 2 });
    })();
    const frames = await page.evaluate(async () => {
        const gaps = [];
        let last = performance.now();
        const bottom = document.documentElement.scrollHeight;
        for (let step = 0; step < 240; step += 1) {
            window.scrollTo(0, bottom * (step < 120 ? 1 - step / 120 : (step - 120) / 120));
            await new Promise(requestAnimationFrame);
            const now = performance.now();
            gaps.push(now - last);
            last = now;
        }
        gaps.sort((a, b) => a - b);
        return { p50: Math.round(gaps[120]), p99: Math.round(gaps[237]), worst: Math.round(gaps[239]) };
    });
    await busy;
    const later = await metrics();
    const tasks = await page.evaluate(() => window.longTasks);
    t.diagnostic(
        `scrolling through all of it: frames p50 ${frames.p50} ms, p99 ${frames.p99} ms, worst ${frames.worst} ms; scripting ${Math.round((later.ScriptDuration - before.ScriptDuration) * 1000)} ms; long tasks ${JSON.stringify(tasks)}`,
    );
    t.diagnostic(`heap ${Math.round(later.JSHeapUsedSize / 1024 / 1024)} MiB, nodes ${later.Nodes}`);

    // A search among all of them.
    await page.evaluate(() => (window.longTasks = []));
    await page.keyboard.press("/");
    await page.keyboard.type(`project-${JOBS - 1}`);
    await page.getByText("1 job", { exact: false }).first().waitFor();
    await page.getByRole("link", { name: `project-${JOBS - 1}` }).waitFor();
    t.diagnostic(`long tasks while searching: ${JSON.stringify(await page.evaluate(() => window.longTasks))}`);
    await close(page);
});
