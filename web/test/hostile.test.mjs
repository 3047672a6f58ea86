// Names that want to be more than names, in every field that somebody else fills: they are shown as text.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, launch, NARROW, noSidewaysScroll, open, shot, WIDE } from "./browser.mjs";
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

const EVIL = {
    script: "<script>window.hurt = 1; alert(1)</script>",
    image: '"><img src=x onerror="window.hurt=1;alert(1)">',
    frame: "<iframe srcdoc='<script>parent.hurt=1</script>'></iframe><style>*{display:none}</style>",
    entity: "&lt;b&gt;&amp;amp;${7*7}{{7*7}}",
    right: "\u202egnp.exe\u202c שלום \u2066عالم",
    link: "javascript:alert(1)//",
};
const LONG = `${EVIL.image} ${"W".repeat(3900)}`;

async function unhurt(page, what) {
    const found = await page.evaluate(() => ({
        hurt: window.hurt,
        injected: document.querySelectorAll(
            "main img, main iframe, main script, main style, main b, dialog img, #toasts img, body > iframe",
        ).length,
        handlers: [...document.querySelectorAll("*")].filter((element) =>
            [...element.attributes].some(({ name }) => name.startsWith("on")),
        ).length,
        links: [...document.querySelectorAll("a[href]")].filter(
            (anchor) => !/^(#|\/)/.test(anchor.getAttribute("href")),
        ).length,
    }));
    assert.deepEqual(found, { hurt: undefined, injected: 0, handlers: 0, links: 0 }, what);
}

// The text as the page shows it.
const shown = (text) =>
    text.replace(
        /[\u202a-\u202e\u2066-\u2069]/g,
        (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase()}⟩`,
    );

test("names from those who submit jobs", { timeout: 60000 }, async () => {
    const jobs = [];
    for (const [name, text] of Object.entries(EVIL)) {
        jobs.push(
            await server.submit({
                job_type: "crawl_project",
                account_id: `${text} ${name}`.slice(0, 200),
                web_app_job_id: `${name} ${text}`.slice(0, 200),
                entity_id: text,
                namespace_path: `${text}/${name}`,
                user_id: text,
                created_by_user_id: text,
                tags: [text.slice(0, 100)],
                labels: [text.slice(0, 64)],
                metadata: { [text]: text, list: [text] },
            }),
        );
    }
    const long = await server.submit({
        job_type: "crawl_user",
        entity_id: LONG,
        namespace_path: LONG,
        user_id: LONG,
        account_id: "long",
    });
    await server.api("POST", "gates/close", {
        kind: "credentials",
        account_id: jobs[0].account_id,
        gitlab_host: "localhost",
        reason: EVIL.image,
        by: EVIL.script,
    });
    await server.api("POST", `jobs/${jobs[1].id}/cancel`, { by: EVIL.frame });

    for (const viewport of [WIDE, NARROW]) {
        const page = await open(browser, server, { hash: "#/jobs", viewport });
        for (const [name, text] of Object.entries(EVIL))
            await page
                .getByText(shown(`${text}/${name}`), { exact: true })
                .first()
                .waitFor();
        await unhurt(page, "jobs");
        await noSidewaysScroll(page, "jobs");
        if (viewport === WIDE) await shot(page, "hostile");
        for (const job of [...jobs, long]) {
            await page.evaluate((to) => (window.location.hash = to), `#/jobs/${job.id}`);
            await page
                .getByRole("region", { name: "Details" })
                .getByText(shown(job.namespace_path), { exact: true })
                .first()
                .waitFor();
            await unhurt(page, job.namespace_path.slice(0, 60));
            await noSidewaysScroll(page, job.namespace_path.slice(0, 60));
        }
        for (const view of ["overview", "areas", "errors", "log", "queue", "submit", "crawlers"]) {
            await page.evaluate((to) => (window.location.hash = to), `#/${view}`);
            await page.waitForTimeout(250);
            await unhurt(page, view);
            await noSidewaysScroll(page, view);
        }
        await page.evaluate((to) => (window.location.hash = to), "#/queue");
        await page.getByText(EVIL.image, { exact: false }).first().waitFor();
        await page.getByText(EVIL.frame, { exact: false }).first().waitFor();
        await close(page);
    }
    await server.api("POST", "gates/open", {
        kind: "credentials",
        account_id: jobs[0].account_id,
        gitlab_host: "localhost",
    });
    for (const job of jobs) await server.api("POST", `jobs/${job.id}/cancel`).catch(() => {});
    await server.api("POST", `jobs/${long.id}/cancel`).catch(() => {});
});

test("names from crawlers", { timeout: 60000 }, async () => {
    const crawler = await server.crawler();
    const { id } = await server.submit({ account_id: "crawled", gitlab_host: "localhost" });
    await crawler.assigned(id);
    const page = await open(browser, server, { hash: `#/jobs/${id}` });
    crawler.beat(EVIL.script.slice(0, 100));
    crawler.say("job_started", { job_type: "discover_namespaces" }, id);
    crawler.say(
        "job_progress",
        {
            progress: Object.values(EVIL).map((text) => ({
                entity_type: text.slice(0, 100),
                sub_collection: text.slice(0, 100),
                total_discovered: 10,
                total_processed: 5,
            })),
            overall_completion: 0.5,
            time_elapsed: 10,
        },
        id,
    );
    crawler.say(
        "jobs_discovered",
        {
            discovered_jobs: Object.values(EVIL).map((text, number) => ({
                job_type: ["crawl_project", "crawl_user", "crawl_group"][number % 3],
                entity_id: text,
                namespace_path: `${text}/x`,
                entity_name: `${text} named`,
            })),
            discovery_summary: {},
        },
        id,
    );
    await page.getByRole("table").getByText(shown(EVIL.image), { exact: false }).first().waitFor();
    await page
        .getByRole("region", { name: "Tree below it" })
        .getByText(shown(`${EVIL.right} named`), { exact: true })
        .waitFor();
    await unhurt(page, "a job with its tree");
    await noSidewaysScroll(page, "a job with its tree");
    crawler.say(
        "job_failed",
        {
            job_type: "discover_namespaces",
            error_context: { error_type: EVIL.script, error_message: LONG, is_recoverable: false, retry_count: 0 },
        },
        id,
    );
    await page.getByRole("region", { name: "Errors" }).getByText(EVIL.script).first().waitFor();
    await unhurt(page, "a failed job");
    await noSidewaysScroll(page, "a failed job");
    for (const view of ["overview", "jobs", "areas?account=crawled", "crawlers", "errors", "log"]) {
        await page.evaluate((to) => (window.location.hash = to), `#/${view}`);
        await page.waitForTimeout(400);
        await unhurt(page, view);
        await noSidewaysScroll(page, view);
    }
    await page.evaluate((to) => (window.location.hash = to), "#/areas?account=crawled");
    await until(
        "the area is shown",
        async () => (await page.getByRole("treeitem").filter({ hasText: "U+202E" }).count()) > 0,
    );
    crawler.kill();
    await close(page);
});

test("addresses of the page are names, too", { timeout: 30000 }, async () => {
    const page = await open(browser, server, { hash: `#/jobs/${encodeURIComponent(EVIL.image)}` });
    await page.getByText("There is no such job").first().waitFor();
    await unhurt(page, "an unknown job");
    for (const hash of [
        `#/jobs?q=${encodeURIComponent(EVIL.script)}&tag=${encodeURIComponent(EVIL.image)}`,
        `#/errors?category=${encodeURIComponent(EVIL.script)}`,
        `#/areas?account=${encodeURIComponent(EVIL.image)}`,
        "#/%E0%A4%A",
        "#/__proto__",
        "#/toString",
    ]) {
        await page.goto(`${server.url}/${hash}`);
        await page.waitForTimeout(200);
        await unhurt(page, hash);
    }
    await close(page);
});
