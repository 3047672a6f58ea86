// Every view in both themes and on a narrow screen: pictures to look at, no scrolling sideways, and nothing that keeps somebody
// from using it. With CRAWLWIRE_IMAGES=1 the pictures of the handbook are written anew.

import { mkdirSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { accessible, close, launch, live, NARROW, noSidewaysScroll, open, shot, WIDE } from "./browser.mjs";
import { TestServer, until } from "./server.mjs";

const IMAGES = path.resolve(import.meta.dirname, "../../docs/images");

let browser;
let server;
let shown;
before(async () => {
    browser = await launch();
    server = await TestServer.start();
    shown = await night(server);
});
after(async () => {
    await browser?.close();
    await server?.close();
});

// A night shift: a crawl under way, one that is over, work that waits, fails, and is held back.
async function night(server) {
    const root = server.repositories({ platform: ["api", "worker", "gateway"], web: ["site", "docs"] });
    const first = await server.submit({ account_id: "night-shift", tags: ["nightly"] });
    const quick = server.gitCrawler(root, { jobs: 4 });
    await until(
        "a tree is over",
        async () => (await server.api("GET", `jobs/${first.id}`)).tree_status === "completed",
    );
    quick.kill("SIGTERM");
    await until("it has left", async () => (await server.api("GET", "crawlers")).items.length === 0);

    const crawler = await server.crawler();
    const acme = (name, more = {}) =>
        server.submit({
            job_type: "crawl_project",
            account_id: "acme",
            gitlab_host: "gitlab.example.com",
            entity_id: name,
            namespace_path: `platform/${name}`,
            ...more,
        });
    const begin = async (job) => {
        await crawler.assigned(job.id);
        crawler.say("job_started", { job_type: job.job_type }, job.id);
    };
    const failing = await acme("billing");
    await begin(failing);
    crawler.say(
        "job_failed",
        {
            job_type: "crawl_project",
            error_context: {
                error_type: "HttpError",
                error_message: "GitLab answered 403: the token may not read issues of this project.",
                is_recoverable: false,
                retry_count: 2,
            },
            recovery_suggestion: "Give the token the scope read_api.",
        },
        failing.id,
    );
    const stuck = await acme("monolith", { priority: 5 });
    await begin(stuck);
    const report = (issues) =>
        crawler.say(
            "job_progress",
            {
                progress: [
                    {
                        entity_type: "issues",
                        total_discovered: 1200,
                        total_processed: issues,
                        estimated_remaining: 1200 - issues,
                    },
                    {
                        entity_type: "issues",
                        sub_collection: "notes",
                        total_discovered: 5400,
                        total_processed: issues * 3,
                        estimated_remaining: 5400 - issues * 3,
                    },
                    {
                        entity_type: "merge_requests",
                        total_discovered: 310,
                        total_processed: 310,
                        estimated_remaining: 0,
                    },
                ],
                overall_completion: issues / 1100,
                time_elapsed: issues * 10,
            },
            stuck.id,
        );
    for (let issues = 300; issues <= 480; issues += 15) {
        report(issues);
        await new Promise((resolve) => setTimeout(resolve, 400));
    }
    const tree = await server.submit({
        account_id: "acme",
        gitlab_host: "gitlab.example.com",
        priority: 3,
        tags: ["nightly"],
        metadata: { ticket: "OPS-2211" },
    });
    await begin(tree);
    const group = (name, type = "crawl_project") => ({
        job_type: type,
        entity_id: name,
        namespace_path: name,
        entity_name: name.split("/").pop(),
        estimated_size: { issues: 200 },
    });
    crawler.say(
        "job_progress",
        {
            progress: [
                { entity_type: "groups", total_discovered: 14, total_processed: 6 },
                { entity_type: "projects", total_discovered: 40, total_processed: 18 },
            ],
            overall_completion: 0.3,
            time_elapsed: 9000,
        },
        tree.id,
    );
    crawler.say(
        "jobs_discovered",
        {
            discovered_jobs: [
                group("platform", "crawl_group"),
                group("platform/search"),
                group("platform/payments"),
                group("data/warehouse"),
                group("ada", "crawl_user"),
            ],
            discovery_summary: {},
        },
        tree.id,
    );
    await acme("archive", { run_at: new Date(Date.now() + 3600 * 1000).toISOString() });
    await acme("reports", { labels: ["eu"] });
    const paused = await acme("legacy", { labels: ["eu"] });
    await server.api("POST", `jobs/${paused.id}/pause`, { by: "Ada" });
    const off = await acme("retired", { labels: ["eu"] });
    await server.api("POST", `jobs/${off.id}/cancel`, { by: "Ada" });
    await server.api("POST", "gates/close", {
        kind: "host",
        gitlab_host: "gitlab.test.example",
        reason: "maintenance until morning",
        by: "Ada",
    });
    crawler.say("nonsense", {}, "x");
    const slow = server.gitCrawler(root, { slow: 6000, jobs: 2 });
    await server.submit({ account_id: "night-shift", tags: ["nightly"] });
    await until("the slow crawl runs", async () => (await server.api("GET", "jobs?status=running")).items.length >= 3);
    report(480);
    return { first, failing, stuck, tree, slow };
}

const views = () => ({
    overview: "#/overview",
    jobs: "#/jobs",
    "job-running": `#/jobs/${shown.stuck.id}`,
    "job-tree": `#/jobs/${shown.tree.id}`,
    "job-failed": `#/jobs/${shown.failing.id}`,
    "job-over": `#/jobs/${shown.first.id}`,
    crawlers: "#/crawlers",
    areas: "#/areas?account=night-shift",
    errors: "#/errors",
    log: "#/log",
    queue: "#/queue",
    submit: "#/submit",
});

for (const [name, colorScheme, viewport] of [
    ["light", "light", WIDE],
    ["dark", "dark", WIDE],
    ["narrow", "light", NARROW],
    ["narrow-dark", "dark", NARROW],
]) {
    test(`every view, ${name}`, { timeout: 90000 }, async () => {
        const page = await open(browser, server, { colorScheme, viewport });
        for (const [view, hash] of Object.entries(views())) {
            await page.evaluate((to) => (window.location.hash = to), hash);
            await page.waitForTimeout(450);
            await shot(page, `${view}-${name}`);
            await noSidewaysScroll(page, `${view}, ${name}`);
            if (name !== "narrow-dark") await accessible(page, `${view}, ${name}`);
        }
        await close(page);
    });
}

test("dialogs are usable, too", { timeout: 60000 }, async () => {
    for (const colorScheme of ["light", "dark"]) {
        const page = await open(browser, server, { hash: `#/jobs/${shown.tree.id}`, colorScheme });
        await page.getByRole("button", { name: "Cancel", exact: true }).click();
        await page.getByRole("dialog").waitFor();
        await shot(page, `dialog-${colorScheme}`);
        await accessible(page, `a question, ${colorScheme}`);
        await page.keyboard.press("Escape");
        await page.keyboard.press("?");
        await page.getByRole("dialog", { name: "Keys" }).waitFor();
        await accessible(page, `the help, ${colorScheme}`);
        await close(page);
    }
});

test("the switch of colours wins over the system, before the first paint", { timeout: 30000 }, async () => {
    const page = await open(browser, server, { colorScheme: "dark" });
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await ground();
    await page.getByRole("button", { name: /Colours/ }).click();
    await page.locator("html[data-theme=light]").waitFor();
    await page.reload();
    await live(page);
    if ((await ground()) === dark) throw new Error("light was chosen");
    await close(page);
});

test("pictures for the handbook", { skip: !process.env.CRAWLWIRE_IMAGES, timeout: 90000 }, async () => {
    mkdirSync(IMAGES, { recursive: true });
    const picture = async (name, hash, options, wait = 1500) => {
        const page = await open(browser, server, { hash, ...options });
        await page.waitForTimeout(wait);
        await page.screenshot({ path: path.join(IMAGES, `dashboard-${name}.png`) });
        await close(page);
    };
    // Long enough for a course of the throughput.
    await picture("overview", "#/overview", {}, 20000);
    await picture("jobs", "#/jobs", { colorScheme: "dark" });
    await picture("job", `#/jobs/${shown.stuck.id}`, {});
    await picture("narrow", `#/jobs/${shown.tree.id}`, { viewport: NARROW });
});
