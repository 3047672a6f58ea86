// The real server and real crawlers, each in a folder of its own below the system's temporary one.

import { spawn, execFileSync } from "node:child_process";
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";

const DEBUG = path.resolve(import.meta.dirname, "../../target/debug");
export const SERVER = process.env.CRAWLWIRE_BIN ?? path.join(DEBUG, "crawlwire");
export const GIT_CRAWLER = process.env.CRAWLWIRE_GIT_CRAWLER ?? path.join(DEBUG, "examples/git_crawler");

// Nothing takes this long unless it is broken.
export const DEADLINE = 20000;

export async function until(what, look, { within = DEADLINE } = {}) {
    const end = Date.now() + within;
    for (;;) {
        const seen = await look();
        if (seen) return seen;
        if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 25));
    }
}

export class TestServer {
    constructor(settings = {}) {
        this.dir = mkdtempSync(path.join(tmpdir(), "crawlwire-web-"));
        this.socket = path.join(this.dir, "crawler.sock");
        this.http = "127.0.0.1:0";
        this.settings = settings;
        this.crawlers = [];
    }

    static async start(settings) {
        const server = new TestServer(settings);
        await server.start();
        return server;
    }

    async start() {
        const env = {
            PATH: process.env.PATH,
            SOCKET_LOG_LEVEL: "warn",
            SOCKET_MAX_CONNECTIONS: "20",
            ...this.settings,
        };
        const args = ["--socket", this.socket, "--http", this.http, "--data-dir", path.join(this.dir, "data")];
        this.process = spawn(SERVER, args, { env, cwd: this.dir, stdio: ["ignore", "pipe", "pipe"] });
        this.ended = new Promise((resolve) => this.process.once("exit", resolve));
        this.said = [];
        readline.createInterface({ input: this.process.stderr }).on("line", (line) => this.said.push(line));
        this.url = await new Promise((resolve, reject) => {
            this.process.once("error", reject);
            this.process.once("exit", (code) =>
                reject(new Error(`the server ended with ${code}:\n${this.said.join("\n")}`)),
            );
            readline.createInterface({ input: this.process.stdout }).on("line", (line) => {
                const http = /^\s+http\s+(http:\/\/\S+?)\/?$/.exec(line);
                if (http) resolve(http[1]);
            });
        });
        // It comes back at the same address.
        this.http = new URL(this.url).host;
    }

    async stop(signal = "SIGTERM") {
        this.process.kill(signal);
        await this.ended;
    }

    async close() {
        for (const crawler of this.crawlers) crawler.kill("SIGKILL");
        await this.stop("SIGKILL");
        rmSync(this.dir, { recursive: true, force: true, maxRetries: 3 });
    }

    async api(method, address, body) {
        const response = await fetch(`${this.url}/api/v1/${address}`, {
            method,
            headers: body === undefined ? {} : { "content-type": "application/json" },
            body: body === undefined ? undefined : JSON.stringify(body),
        });
        const answer = await response.json();
        if (!response.ok) throw Object.assign(new Error(`${method} ${address}: ${JSON.stringify(answer)}`), { answer });
        return answer;
    }

    submit(fields = {}) {
        return this.api("POST", "jobs", {
            job_type: "discover_namespaces",
            account_id: "me",
            gitlab_host: "localhost",
            ...fields,
        });
    }

    // Repositories to crawl: groups of projects with some commits.
    repositories(groups) {
        const root = path.join(this.dir, "repositories");
        for (const [group, projects] of Object.entries(groups)) {
            for (const project of projects) {
                const where = path.join(root, group, project);
                mkdirSync(where, { recursive: true });
                const git = (...args) =>
                    execFileSync("git", ["-c", "user.name=Ann", "-c", "user.email=ann@example.com", ...args], {
                        cwd: where,
                        stdio: "ignore",
                    });
                git("init", "-q", "-b", "main");
                for (const step of [1, 2, 3]) {
                    writeFileSync(path.join(where, `file ${step}.txt`), String(step));
                    git("add", ".");
                    git("commit", "-qm", `step ${step}`);
                }
            }
        }
        return root;
    }

    // The example crawler of this repository.
    gitCrawler(root, { slow = 0, jobs = 2 } = {}) {
        const args = [
            "--root",
            root,
            "--socket",
            this.socket,
            "--out",
            path.join(this.dir, "out"),
            "--slow-ms",
            String(slow),
            "--jobs",
            String(jobs),
            "--quiet",
        ];
        const crawler = spawn(GIT_CRAWLER, args, { cwd: this.dir, stdio: "ignore" });
        this.crawlers.push(crawler);
        return crawler;
    }

    // A crawler of the base protocol that says what it is told to.
    crawler() {
        return BaseCrawler.connect(this);
    }
}

class BaseCrawler {
    static async connect(server) {
        const crawler = new BaseCrawler();
        crawler.socket = net.connect(server.socket);
        await new Promise((resolve, reject) => crawler.socket.once("connect", resolve).once("error", reject));
        crawler.assignments = [];
        readline.createInterface({ input: crawler.socket }).on("line", (line) => {
            const message = JSON.parse(line);
            if (message.type === "job_assignment") crawler.assignments.push(message.data);
        });
        server.crawlers.push(crawler);
        crawler.beat();
        crawler.beats = setInterval(() => crawler.beat(), 5000);
        return crawler;
    }

    say(type, data, jobId) {
        this.socket.write(`${JSON.stringify({ type, timestamp: new Date().toISOString(), job_id: jobId, data })}\n`);
    }

    beat(words = "idle") {
        this.say("heartbeat", {
            active_jobs: this.assignments.length,
            last_activity: new Date().toISOString(),
            system_status: words,
        });
    }

    assigned(jobId) {
        return until("a job is assigned", () => this.assignments.find((assignment) => assignment.job_id === jobId));
    }

    kill() {
        clearInterval(this.beats);
        this.socket.destroy();
    }
}
