// A newcomer's way: an empty page, a job submitted there, a crawler started, and all of it seen through. Nothing is reloaded.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, launch, open, shot } from "./browser.mjs";
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

test("a git crawl is watched from empty to finished", { timeout: 60000 }, async () => {
    const page = await open(browser, server);
    await page.evaluate(() => (window.marker = "not reloaded"));
    await page.getByText("Two steps to a first crawl").waitFor();
    await shot(page, "overview-empty");
    await page.getByLabel("How to begin").getByRole("link", { name: "Submit a job" }).click();

    // The server's rules are told at the fields they are about.
    await page.getByRole("button", { name: "Submit", exact: true }).click();
    await page.locator("#submit-account_id-wrong").getByText("This is needed.").waitFor();
    await page.getByLabel("Host", { exact: true }).fill("not a host");
    await page.getByLabel("Account", { exact: true }).fill("newcomer");
    await page.getByRole("button", { name: "Submit", exact: true }).click();
    await page
        .locator("#submit-gitlab_host-wrong")
        .getByText(/host name/)
        .waitFor();
    await page.getByLabel("Host", { exact: true }).fill("localhost");
    await page.getByRole("button", { name: "Submit", exact: true }).click();

    await page.getByRole("heading", { name: "Discovery of localhost" }).waitFor();
    await page
        .getByLabel("Why it does not move")
        .getByText(/no crawler/i)
        .waitFor();
    await shot(page, "job-waiting");

    const root = server.repositories({ platform: ["api", "worker"], web: ["site"] });
    server.gitCrawler(root, { slow: 500, jobs: 3 });
    await page.locator(".job-title .badge[data-tone=running]").waitFor();
    await page.getByLabel("Why it does not move").waitFor({ state: "hidden" });
    const bar = page.getByRole("progressbar", { name: /Progress of this job|Progress of Discovery/ }).first();
    const seen = new Set();
    await until("the job has ended", async () => {
        seen.add(await bar.getAttribute("aria-valuenow"));
        return (await page.locator(".job-title .badge[data-tone=completed]").count()) > 0;
    });
    assert.equal(await bar.getAttribute("aria-valuenow"), "100");
    assert.ok(seen.size > 1, `the bar moved: ${[...seen]}`);

    // The tree below it, live, until all of it is over.
    await page.getByText("tree completed").waitFor();
    const tree = page.getByRole("region", { name: "Tree below it" });
    assert.equal(await tree.locator(".tree-row").count(), 7, "three projects, three groups, one user");
    await until(
        "all bars of the tree are full",
        async () => (await tree.locator(".tree-row .bar[aria-valuenow='100']").count()) === 7,
    );
    await page.getByRole("region", { name: "Attempts" }).getByText("completed").waitFor();
    await page.getByRole("region", { name: "Timeline" }).getByText("the crawler said it ended").waitFor();
    await page
        .getByRole("row", { name: /projects/ })
        .getByText("3 of 3")
        .waitFor();

    // A child, and back.
    await tree.getByRole("link", { name: "site" }).click();
    await page.getByRole("heading", { name: "site" }).waitFor();
    await page
        .getByRole("row", { name: /commits/ })
        .getByText("3 of 3")
        .waitFor();

    await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: /Areas/ }).click();
    await page
        .getByRole("treeitem", { name: /platform/ })
        .getByText("api")
        .waitFor();
    await page
        .getByRole("navigation", { name: "Views" })
        .getByRole("link", { name: /Crawlers/ })
        .click();
    await page.getByRole("heading", { name: /git_crawler/ }).waitFor();
    await page
        .getByRole("navigation", { name: "Views" })
        .getByRole("link", { name: /Live log/ })
        .click();
    await page.locator(".log .badge[data-tone=completed]").first().waitFor();
    await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: /Jobs/ }).click();
    await page.getByText("8 jobs").waitFor();
    assert.equal(await page.evaluate(() => window.marker), "not reloaded");
    await close(page);
});

test("no page asks by the clock", { timeout: 60000 }, async () => {
    for (const crawler of server.crawlers) crawler.kill("SIGKILL");
    await until("nobody is connected", async () => (await server.api("GET", "connections")).items.length === 0);
    const page = await open(browser, server, { hash: "#/overview" });
    const { items } = await server.api("GET", "jobs?limit=1");
    for (const hash of [
        "#/overview",
        "#/jobs",
        `#/jobs/${items[0].id}`,
        "#/crawlers",
        "#/areas",
        "#/errors",
        "#/log",
        "#/queue",
    ]) {
        await page.evaluate((to) => (window.location.hash = to), hash);
        await page.waitForTimeout(800);
        // What was asked for when the view was opened may come late, but a clock goes on.
        let asked;
        for (let look = 0; look < 4 && asked?.length !== 0; look += 1) asked = await requestsWithin(page, 1300);
        assert.deepEqual(asked, [], `${hash} asks while nothing happens`);
    }
    await close(page);
});

async function requestsWithin(page, milliseconds) {
    const asked = [];
    const listen = (request) => asked.push(request.url());
    page.on("request", listen);
    await page.waitForTimeout(milliseconds);
    page.off("request", listen);
    return asked;
}
