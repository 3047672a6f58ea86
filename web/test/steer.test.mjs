// What people do by clicks and keys: cancel, retry, pause, the queue, filters, and the keys of those who watch all night.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, launch, live, open } from "./browser.mjs";
import { TestServer, until } from "./server.mjs";

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

const confirm = (page, name) => page.getByRole("dialog").getByRole("button", { name, exact: true }).click();
const badge = (page, state) => page.locator(`.job-title .badge[data-tone=${state}]`);

test("a job is cancelled and tried again by clicks", { timeout: 60000 }, async () => {
    const job = await server.submit({ job_type: "crawl_project", entity_id: "7", namespace_path: "group/steered" });
    const page = await open(browser, server, { hash: "#/jobs" });
    await page.getByRole("link", { name: "group/steered" }).click();
    await badge(page, "queued").waitFor();

    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.equal((await server.api("GET", `jobs/${job.id}`)).state, "queued", "a closed question does nothing");

    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await page.getByLabel(/Your name/).fill("Ada");
    await confirm(page, "Cancel the job");
    await badge(page, "cancelled").waitFor();
    assert.equal((await server.api("GET", `jobs/${job.id}`)).status, "cancelled");
    assert.equal((await server.api("GET", "audit?limit=1")).items[0].by, "Ada");

    await page.getByRole("button", { name: "Retry" }).click();
    await confirm(page, "Retry the job");
    await badge(page, "queued").waitFor();
    await page.getByRole("button", { name: "Pause" }).click();
    await confirm(page, "Pause the job");
    await badge(page, "paused").waitFor();
    await page.getByRole("button", { name: "Resume" }).click();
    await confirm(page, "Resume the job");
    await badge(page, "queued").waitFor();
    await page.getByRole("region", { name: "Timeline" }).getByText("to be tried again", { exact: false }).waitFor();
    await close(page);
});

test("a failed job shows why, and is tried again", { timeout: 60000 }, async () => {
    const crawler = await server.crawler();
    const { id } = await server.submit({
        job_type: "crawl_project",
        entity_id: "8",
        namespace_path: "group/failing",
        priority: 9,
    });
    const page = await open(browser, server, { hash: `#/jobs/${id}` });
    await crawler.assigned(id);
    crawler.say("job_started", { job_type: "crawl_project" }, id);
    crawler.say(
        "job_progress",
        {
            progress: [{ entity_type: "issues", total_discovered: 10, total_processed: 4, estimated_remaining: 6 }],
            overall_completion: 0.8,
            time_elapsed: 100,
        },
        id,
    );
    await badge(page, "running").waitFor();
    await page.getByText("The crawler itself says 80 %", { exact: false }).waitFor();
    await page.getByText("4 of about 10 items", { exact: false }).first().waitFor();
    crawler.say(
        "job_failed",
        {
            job_type: "crawl_project",
            error_context: {
                error_type: "HttpError",
                error_message: "the host said 500",
                is_recoverable: false,
                retry_count: 0,
            },
        },
        id,
    );
    await badge(page, "failed").waitFor();
    await page.getByRole("region", { name: "Errors" }).getByText("the host said 500").waitFor();
    await page.getByRole("button", { name: "Retry" }).click();
    await confirm(page, "Retry the job");
    await badge(page, "failed").waitFor({ state: "detached" });
    crawler.kill();
    await close(page);
});

test("the queue is paused and goes on", { timeout: 30000 }, async () => {
    const page = await open(browser, server, { hash: "#/queue" });
    await page.getByRole("button", { name: "Pause the queue…" }).click();
    await page.getByLabel("Reason").fill("night work");
    await confirm(page, "Pause the queue");
    await page.getByText("night work").first().waitFor();
    assert.equal((await server.api("GET", "queue")).paused, true);
    await page.getByRole("button", { name: "Resume the queue" }).click();
    await confirm(page, "Resume the queue");
    await page.getByText("Jobs are given out.").waitFor();
    assert.equal((await server.api("GET", "queue")).paused, false);
    await close(page);
});

test("the list is filtered, and walked by keys", { timeout: 30000 }, async () => {
    for (const name of ["alpha", "beta", "gamma"])
        await server.submit({
            job_type: "crawl_group",
            account_id: "walker",
            entity_id: name,
            namespace_path: `walk/${name}`,
            labels: ["nowhere"],
        });
    const page = await open(browser, server, { hash: "#/jobs" });
    await page.getByRole("link", { name: "walk/gamma" }).waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("walk/");
    await page.getByText("3 jobs").waitFor();
    await page.keyboard.press("Escape");
    await page.keyboard.press("j");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "walk/gamma");
    await page.keyboard.press("j");
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "walk/alpha");
    await page.keyboard.press("k");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "walk/beta" }).waitFor();
    await page.goBack();
    await page.getByText("3 jobs").waitFor();
    await page.getByRole("button", { name: /^Failed/ }).click();
    await page.getByText("No job matches").waitFor();
    await page.getByRole("button", { name: "Show all jobs" }).click();
    await page.getByRole("link", { name: "walk/alpha" }).waitFor();

    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keys" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.keyboard.press("g");
    await page.keyboard.press("e");
    await page.getByRole("heading", { name: "Errors", exact: true }).waitFor();
    const before = await page.evaluate(() => document.documentElement.dataset.theme);
    await page.keyboard.press("t");
    const after = await page.evaluate(() => document.documentElement.dataset.theme);
    assert.notEqual(before, after);
    await page.reload();
    await live(page);
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), after, "it is remembered");
    // The first stop of Tab leads past what stands around.
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.id), "skip");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    await close(page);
});

test("a new job appears in the list by itself", { timeout: 30000 }, async () => {
    const page = await open(browser, server, { hash: "#/jobs?account=late" });
    await page.getByText("No job matches").waitFor();
    await server.submit({ job_type: "crawl_user", account_id: "late", entity_id: "newborn", labels: ["nowhere"] });
    await page.getByRole("link", { name: "newborn" }).waitFor();
    await until(
        "the bar is labelled",
        async () => (await page.getByRole("progressbar", { name: "Progress of newborn" }).count()) === 1,
    );
    await close(page);
});

test("a crawler is drained, used again, and disconnected", { timeout: 30000 }, async () => {
    const crawler = await server.crawler();
    const page = await open(browser, server, { hash: "#/crawlers" });
    await page.getByText("More", { exact: true }).click();
    await page.getByRole("button", { name: "Drain" }).click();
    await confirm(page, "Drain it");
    await page.locator(".crawler .tag").getByText("draining").waitFor();
    await page.getByRole("button", { name: "Use again" }).click();
    await confirm(page, "Use it again");
    await page.getByRole("button", { name: "Drain" }).waitFor();
    const ended = new Promise((resolve) => crawler.socket.once("close", resolve));
    await page.getByRole("button", { name: "Disconnect" }).click();
    await confirm(page, "Disconnect it");
    await ended;
    await page.getByText("No crawler is connected to this server").waitFor();
    crawler.kill();
    await close(page);
});
