// The server goes away while the page is open: the page says since when it is stale, and recovers without being loaded again.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, close, launch, live, open, shot } from "./browser.mjs";
import { TestServer } from "./server.mjs";

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

for (const signal of ["SIGTERM", "SIGKILL"]) {
    test(`a restart by ${signal} is told and survived`, { timeout: 60000 }, async () => {
        await server.submit({ job_type: "crawl_project", entity_id: signal, namespace_path: `before/${signal}` });
        const page = await open(browser, server, { hash: "#/jobs" });
        await page.getByRole("link", { name: `before/${signal}` }).waitFor();
        await page.evaluate(() => (window.marker = "not reloaded"));

        await server.stop(signal);
        await page
            .locator("#link[data-state=stale]")
            .getByText(/Stale since \d\d:\d\d:\d\d/)
            .waitFor();
        const banner = page.locator("#banner");
        await banner.getByText(/What is shown is as of \d\d:\d\d:\d\d/).waitFor();
        await banner.getByText(/Attempt [2-9]/).waitFor();
        assert.ok(await page.getByRole("link", { name: `before/${signal}` }).isVisible(), "what was known stays");
        if (signal === "SIGTERM") {
            await shot(page, "stale");
            await accessible(page, "a stale page");
            // Who acts now is told that it did not happen.
            await page.getByRole("link", { name: `before/${signal}` }).click();
            await page.getByRole("button", { name: "Cancel", exact: true }).click();
            await page.getByRole("dialog").getByRole("button", { name: "Cancel the job" }).click();
            await page.getByText("The server could not be reached.").waitFor();
        }

        await server.start();
        await server.submit({ job_type: "crawl_project", entity_id: `${signal} 2`, namespace_path: `after/${signal}` });
        await live(page);
        await banner.waitFor({ state: "hidden" });
        await page.evaluate(() => (window.location.hash = "#/jobs"));
        await page.getByRole("link", { name: `after/${signal}` }).waitFor();
        assert.equal(await page.evaluate(() => window.marker), "not reloaded");
        await close(page);
    });
}

test("a page that never reached its server says so", { timeout: 30000 }, async () => {
    const page = await open(browser, server);
    await page.route("**/api/v1/stream*", (route) => route.abort());
    await page.reload();
    await page.locator("#banner").getByText("The server cannot be reached").waitFor();
    await page.unroute("**/api/v1/stream*");
    await page.getByRole("button", { name: "Try now" }).click();
    await live(page);
    await close(page);
});
