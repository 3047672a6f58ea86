// A browser, and what tests ask of a page of the dashboard.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";
import { DEADLINE } from "./server.mjs";

export const ARTIFACTS = path.resolve(import.meta.dirname, "../artifacts");
mkdirSync(ARTIFACTS, { recursive: true });

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const WIDE = { width: 1280, height: 860 };
export const NARROW = { width: 375, height: 760 };

export function launch() {
    return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
}

// A page that fails the test by `faults` when a script fails, something is refused by the policy, or a dialog comes up.
export async function open(browser, server, { hash = "", viewport = WIDE, colorScheme = "light", ready = true } = {}) {
    const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
    const page = await context.newPage();
    page.setDefaultTimeout(DEADLINE);
    page.faults = [];
    page.on("pageerror", (error) => page.faults.push(error.stack));
    page.on("dialog", (dialog) => {
        page.faults.push(`dialog: ${dialog.message()}`);
        dialog.dismiss();
    });
    page.on("console", (message) => {
        if (/Content.Security.Policy/i.test(message.text())) page.faults.push(message.text());
    });
    await page.goto(`${server.url}/${hash}`);
    if (ready) await live(page);
    return page;
}

export function live(page) {
    return page.locator("#link[data-state=live]").waitFor();
}

export async function close(page) {
    assert.deepEqual(page.faults, []);
    await page.context().close();
}

export async function noSidewaysScroll(page, what) {
    const beyond = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    assert.ok(beyond <= 0, `${what} is ${beyond} px too wide`);
}

// Findings of axe-core that keep somebody from using the page.
export async function accessible(page, what) {
    // As an initial script would be: the policy of the page forbids injected elements, not this.
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    const told = grave.map(
        ({ id, impact, nodes }) =>
            `${what}: ${impact} ${id}: ${nodes
                .slice(0, 3)
                .map(({ html, failureSummary }) => `${html.slice(0, 200)} ${failureSummary}`)
                .join("\n")}`,
    );
    assert.deepEqual(told, []);
}

export function shot(page, name) {
    return page.screenshot({ path: path.join(ARTIFACTS, `${name}.png`) });
}
