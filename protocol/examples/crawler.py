#!/usr/bin/env python3
"""An example crawler: the session protocol of Crawlwire in one file, with nothing but Python 3.11.

    crawler.py unix:///run/crawlwire/crawler.sock
    crawler.py --slots 4 --state crawler.state tcp://127.0.0.1:9000
    CRAWLER_TOKEN=cwt_... crawler.py --tls --ca ca.pem tcp://jobs.example.com:9000

It takes jobs, pretends to work on them in steps, and reports as a real crawler would: progress, a checkpoint for each
step, and a child for each step of discover_namespaces. Put real work into `Crawler.take_step`, copy the rest.

With --state a process that was killed and started again is the same instance: it sends what the server has not settled
and gets its jobs back. Without it every process is an instance of its own. SIGTERM and SIGINT give the jobs back.

The rules are those of PROTOCOL.md and SESSION.md, one folder above. Compression and new tokens are left out.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import sqlite3
import ssl
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from urllib.parse import urlsplit

WELCOME_TIMEOUT = 5.0  # no welcome by then: the server knows only the base protocol
BASE_HEARTBEAT = 30.0  # the base protocol does not tell an interval
CONNECT_TIMEOUT = 10.0
BACKOFF_FIRST, BACKOFF_MAX = 1.0, 30.0  # well below the 5 s for which a lost connection keeps its jobs, at first
GO_BACK_DELAY = 0.05  # errors about what was sent meanwhile arrive together: go back once for all of them
LINE_MAX = 16 * 1024 * 1024  # bytes of a line from the server
UNSETTLED_MAX = 256  # jobs wait while this many lasting messages wait, so that an outage fills no disk

ENDS = {"job_completed", "job_failed", "job_cancelled", "job_paused", "job_returned"}
LEASE_OVER = {"stale", "not_held", "not_found", "job_ended"}
CHILDREN = ("crawl_group", "crawl_project", "crawl_user")

log = logging.getLogger("crawler")


def encode(type_, data, job_id=None, **marks):
    """A line without its end: type, marks and data in the order that is read fastest."""
    message = {"type": type_, "timestamp": now()}
    if job_id is not None:
        message["job_id"] = job_id
    return json.dumps(message | marks | {"data": data}, separators=(",", ":")).encode()


def number(text):
    """Written with a fraction of zero or an exponent it is the same integer."""
    value = float(text)
    return int(value) if value.is_integer() else value


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Spool:
    """The instance, its numbers and its unsettled lines: kept in a file, or in memory when there is none."""

    def __init__(self, path):
        self.db = sqlite3.connect(path or ":memory:", timeout=2)
        # Held until the process ends: two processes that are the same instance would replace each other.
        self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
        with self.db:
            self.db.execute("CREATE TABLE IF NOT EXISTS instance (id TEXT NOT NULL, last INTEGER NOT NULL)")
            self.db.execute("CREATE TABLE IF NOT EXISTS line (seq INTEGER PRIMARY KEY, line BLOB NOT NULL)")
            if self.db.execute("UPDATE instance SET last = last").rowcount == 0:
                self.db.execute("INSERT INTO instance VALUES (?, 0)", [str(uuid.uuid4())])
        self.instance, self.last = self.db.execute("SELECT id, last FROM instance").fetchone()
        self.lines = dict(self.db.execute("SELECT seq, line FROM line ORDER BY seq"))

    @property
    def settled(self):
        """The highest number that needs not be sent again."""
        return self.last - len(self.lines)

    def add(self, make):
        """Writes a line down under the next number, before anybody sends it."""
        seq = self.last + 1
        line = make(seq)
        with self.db:
            self.db.execute("INSERT INTO line VALUES (?, ?)", [seq, line])
            self.db.execute("UPDATE instance SET last = ?", [seq])
        self.last, self.lines[seq] = seq, line
        return seq

    def settle(self, seq):
        """Forgets everything up to this number."""
        if seq > self.settled:
            with self.db:
                self.db.execute("DELETE FROM line WHERE seq <= ?", [seq])
            self.lines = {number: line for number, line in self.lines.items() if number > seq}

    def renew(self):
        """Begins a new instance at number 1."""
        self.instance, self.last, self.lines = str(uuid.uuid4()), 0, {}
        with self.db:
            self.db.execute("DELETE FROM line")
            self.db.execute("UPDATE instance SET id = ?, last = 0", [self.instance])


@dataclass
class Work:
    """A job under one lease."""

    job_id: str
    fence: int | None  # None: assigned by the base protocol
    data: dict = field(default_factory=dict, repr=False)  # has the host's token: never logged
    step: int = 0
    fails: bool = False  # for --fail-every
    wish: str | None = None  # cancel, pause or resume
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = field(default_factory=time.monotonic)
    reported: float = 0.0  # when progress was last sent
    n: int = 0
    ended: int | None = None  # the number of its end; over when that is settled
    task: asyncio.Task | None = None

    @property
    def type(self):
        return self.data["job_type"]


class Crawler:
    def __init__(self, args, tasks):
        self.args = args
        self.tasks = tasks
        self.spool = Spool(args.state)
        self.work = {}  # (job id, fence) to Work: everything whose end is not settled
        self.taken = 0
        self.stop = asyncio.Event()
        self.changed = asyncio.Event()
        self.exit_code = None
        self.attempt = 0  # of connecting, since the last success
        self.return_at = None  # when the server told to come back
        self.policy = 1.0  # seconds between two reports of a job's progress
        self.features = ()
        self.writer = None
        self.reset()
        for seq, line in self.spool.lines.items():
            message = json.loads(line)
            if message["type"] in ENDS:
                key = (message["job_id"], message["fence"])
                self.work[key] = Work(*key, ended=seq)

    def reset(self):
        """For a new connection."""
        self.mode = "greeting"  # then session, base or refused
        self.sent = self.spool.settled  # the highest number sent on this connection
        self.back_at = None  # when to go back to the first unsettled number
        self.heard = time.monotonic()

    async def until(self, done):
        while not done():
            self.changed.clear()
            await self.changed.wait()

    # Speaking

    def say(self, type_, data, job_id=None, **marks):
        """Sends what may get lost, if there is a connection; before the welcome only hello."""
        if self.writer is not None and (self.mode != "greeting" or type_ == "hello"):
            self.writer.write(encode(type_, data, job_id, **marks) + b"\n")

    def record(self, type_, work, data):
        """Sends what must not get lost; it stays until it is settled."""
        if work.fence is None:
            self.say(type_, data, work.job_id)
            return
        seq = self.spool.add(lambda seq: encode(type_, data, work.job_id, seq=seq, fence=work.fence))
        if type_ in ENDS:
            work.ended = seq
        self.changed.set()

    async def pump(self):
        """Sends the lasting messages in order, as many at a time as the server allows."""
        while True:
            await self.until(lambda: self.mode == "session" and (self.back_at is not None or self.may_send()))
            if self.back_at is None:
                self.sent += 1
                self.writer.write(self.spool.lines[self.sent] + b"\n")
                await self.writer.drain()
            elif self.back_at > time.monotonic():
                await asyncio.sleep(self.back_at - time.monotonic())
            else:
                self.sent, self.back_at = self.spool.settled, None

    def may_send(self):
        following = self.spool.lines.get(self.sent + 1)
        flying = [len(line) for seq, line in self.spool.lines.items() if seq <= self.sent]
        return following is not None and (
            not flying or (len(flying) < self.in_flight and sum(flying) + len(following) <= self.in_flight_bytes)
        )

    async def beat(self):
        """Shows that the crawler is there, and notices when the server is not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(WELCOME_TIMEOUT):
                await self.until(lambda: self.mode != "greeting")
        if self.mode == "greeting":
            log.info("no welcome: speaking the base protocol")
            self.mode, self.interval, self.timeout = "base", BASE_HEARTBEAT, float("inf")
            self.heartbeat()
        elif self.mode == "refused":
            return await asyncio.sleep(WELCOME_TIMEOUT)  # for the goodbye
        while True:
            await asyncio.sleep(self.interval)
            self.heartbeat()
            silent = time.monotonic() - self.heard
            if silent > self.timeout:
                log.warning("the server has been silent for %.0f s", silent)
                return
            if self.mode == "session" and silent >= self.interval:
                self.say("ping", {})

    def heartbeat(self):
        active = [work for work in self.work.values() if work.ended is None]
        finding = any(work.type == "discover_namespaces" for work in active)
        status = "discovering" if finding else "crawling" if active else "idle"
        data = {"active_jobs": len(active), "last_activity": now(), "system_status": status}
        if self.mode == "session":
            data["jobs"] = self.holds()
        self.say("heartbeat", data)

    def holds(self):
        return [{"job_id": job_id, "fence": fence} for job_id, fence in self.work if fence is not None]

    # Hearing

    async def listen(self, reader):
        while True:
            try:
                line = await reader.readline()
                if not line.endswith(b"\n"):
                    return  # the stream has ended; a part of a line is no message
                self.heard = time.monotonic()
                if line.strip() and self.handle(json.loads(line, parse_float=number)):
                    return
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                log.warning("the server sent a line that breaks a rule (%s)", type(error).__name__)
            await self.writer.drain()

    def handle(self, message):
        """Does what the server says; whether the connection is over. What is unknown is ignored."""
        match message:
            case {"type": "welcome", "data": dict(data)}:
                return self.welcome(data)
            case {"type": "ack", "data": {"seq": int(seq)}}:
                self.settle(seq)
            case {"type": "error", "data": {"code": str(), "retryable": bool()} as data}:
                return self.refused(data)
            case {"type": "job_assignment", "data": {"job_id": str(), "job_type": str()} as data}:
                if self.mode == "base" or (self.mode == "session" and isinstance(message.get("fence"), int)):
                    self.assign(data, message["fence"] if self.mode == "session" else None)
            case {"type": "job_cancel", "job_id": job_id, "fence": fence, "data": {"reason": "not_yours"}}:
                self.drop((job_id, fence))
            case {"type": "job_cancel" | "job_pause" | "job_resume" as wish, "job_id": job_id, "fence": fence}:
                self.wish((job_id, fence), wish.removeprefix("job_"))
            case {"type": "report_policy", "data": {"progress_interval_ms": int() | float() as interval}}:
                self.policy = interval / 1000
            case {"type": "ping", "data": dict(data)}:
                self.say("pong", {"nonce": data["nonce"]} if "nonce" in data else {})
            case {"type": "draining", "data": {"reconnect_after_ms": int() | float() as wait}}:
                log.info("the server stops soon")
                self.return_at = time.monotonic() + wait / 1000
                # The jobs go on. No goodbye: that would give them back.
                asyncio.get_running_loop().call_later(wait / 1000, self.writer.close)
            case {"type": "goodbye", "data": {"reason": str(reason), "reconnect": bool(back)} as data}:
                log.info("the server says goodbye: %s", reason)
                if not back:
                    self.exit_code = 1
                if "reconnect_after_ms" in data:
                    self.return_at = time.monotonic() + data["reconnect_after_ms"] / 1000 + self.jitter()
                return True
        return False

    def welcome(self, data):
        if self.mode != "greeting":
            return True  # it comes too late: this connection speaks the base protocol, the next one may do better
        high, leases = data["high_water_seq"], {(it["job_id"], it["fence"]) for it in data["leases"]}
        self.interval, self.timeout = data["heartbeat_interval_ms"] / 1000, data["heartbeat_timeout_ms"] / 1000
        self.in_flight, self.in_flight_bytes = data["max_in_flight"], data["max_in_flight_bytes"]
        self.policy = data["report_policy"]["progress_interval_ms"] / 1000
        if not self.spool.settled <= high <= self.spool.last:
            return self.begin_anew("the server remembers other numbers")
        log.info("connected as %s", data["session_id"])
        self.mode, self.features, self.attempt = "session", data["features"], 0
        for key in [key for key in self.work if key[1] is not None and key not in leases]:
            self.drop(key)
        for it in data.get("refused", []):
            if self.spool.settled < it["seq"] <= high:  # the error was lost with the connection
                log.warning("refused: %s, number %s", it["code"], it["seq"])
        self.settle(high)
        self.sent = high
        if self.stop.is_set():
            self.say("job_request", {"slots": 0})
        return False

    def settle(self, seq):
        self.spool.settle(min(seq, self.spool.last))
        self.sent = max(self.sent, self.spool.settled)
        self.work = {key: it for key, it in self.work.items() if it.ended is None or it.ended > self.spool.settled}
        self.changed.set()

    def refused(self, data):
        code, seq = data["code"], data.get("seq")
        log.warning("refused: %s, number %s: %s", code, seq, data.get("message"))
        if self.mode == "greeting":
            self.mode = "refused"
            self.changed.set()
        if code in ("instance_taken", "sequence_conflict"):
            return self.begin_anew(code)
        line = self.spool.lines.get(seq)
        if line is None:
            return False  # about a message that is not kept, or one that is settled already
        if data["retryable"]:
            wait = max(data.get("retry_after_ms", 0) / 1000, GO_BACK_DELAY)
            self.back_at = max(self.back_at or 0, time.monotonic() + wait)
            self.changed.set()
            return False
        message = json.loads(line)
        self.settle(seq)
        if code in LEASE_OVER:
            # The fence of what was refused: the job may be here again under another one.
            self.drop((message["job_id"], message["fence"]))
        return False

    def begin_anew(self, why):
        """The jobs of the old instance go to others when their leases end."""
        log.warning("beginning a new instance: %s", why)
        for key in list(self.work):
            self.drop(key)
        self.spool.renew()
        self.return_at = time.monotonic() + self.jitter()
        return True

    # Working

    def assign(self, data, fence):
        key = (data["job_id"], fence)
        if key in self.work:
            return
        for other in [other for other in self.work if other[0] == key[0] and self.work[other].ended is None]:
            self.drop(other)  # this lease follows that one
        self.taken += 1
        work = Work(*key, data=data, fails=bool(self.args.fail_every) and self.taken % self.args.fail_every == 0)
        step = (data.get("checkpoint") or {}).get("step", 0)
        work.step = step if isinstance(step, int) and 0 <= step <= self.args.steps else 0
        self.work[key] = work
        log.info("job %s: %s from step %d", work.job_id, work.type, work.step)
        work.task = self.tasks.create_task(self.run_job(work))

    def wish(self, key, wish):
        work = self.work.get(key)
        if work is not None and work.ended is None:
            work.wish = wish
            work.woken.set()

    def drop(self, key):
        """Stops a job that is not ours, or no longer, and says nothing of it."""
        work = self.work.pop(key, None)
        if work is not None and work.task is not None:
            work.task.cancel()
        self.changed.set()

    async def run_job(self, work):
        try:
            type_, data = await self.carry_out(work)
        except Exception as error:  # a defect of this crawler must not leave the job hanging
            log.exception("job %s", work.job_id)
            context = {"error_type": type(error).__name__, "error_message": "the crawler has a defect"}
            type_, data = "job_failed", {"job_type": work.type, "error_context": context}
        log.info("job %s: %s at step %d", work.job_id, type_, work.step)
        if work.fence is not None or type_ != "job_returned":  # the base has no word for that
            self.record(type_, work, data)
        if work.fence is None:
            self.work.pop((work.job_id, None), None)
        self.changed.set()

    async def carry_out(self, work):
        """Works on a job; the type and the body of its end."""
        started = False
        while True:
            await self.until(lambda: len(self.spool.lines) < UNSETTLED_MAX)
            if self.stop.is_set():
                return "job_returned", {"reason": "the crawler stops"}
            wish, work.wish = work.wish, None
            work.woken.clear()
            if wish == "resume":
                self.record("job_resumed", work, {})
            elif wish is not None:
                # What is to be kept is in the last checkpoint.
                return {"cancel": "job_cancelled", "pause": "job_paused"}[wish], {"final_counts": self.counts(work)}
            if not started:
                started = True
                self.record("job_started", work, {"job_type": work.type})
            if work.step == self.args.steps:
                break
            if work.fails and work.step == self.args.steps // 2:
                context = {"error_type": "HttpError", "error_message": "the host answered 503"}
                return "job_failed", {"job_type": work.type, "error_context": context}
            if await self.take_step(work):
                work.step += 1
                self.report(work)
        body = {"job_type": work.type, "final_counts": self.counts(work), "total_duration": self.elapsed(work)}
        return "job_completed", body | {"output_files": [], "summary": f"{work.step} steps"}

    async def take_step(self, work):
        """This is where the work would be. False when somebody wants something else of the job first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.args.step_ms / 1000):
                await work.woken.wait()
                return False
        if work.type == "discover_namespaces":
            name = f"namespace-{work.step + 1}"
            kind = CHILDREN[work.step % len(CHILDREN)]
            child = {"job_type": kind, "entity_id": name, "namespace_path": name, "entity_name": name}
            self.record("jobs_discovered", work, {"discovered_jobs": [child], "discovery_summary": {}})
        return True

    def report(self, work):
        if work.fence is not None and "checkpoint" in self.features:
            self.record("checkpoint", work, {"cursor": {"step": work.step}})
        mode = "base" if work.fence is None else "session"
        if self.mode == mode and time.monotonic() - work.reported >= self.policy:
            work.reported = time.monotonic()
            # It must rise after a restart under the same lease too, and it may skip: a clock does that.
            work.n = max(work.n + 1, int(time.time() * 1000))
            marks = {} if work.fence is None else {"fence": work.fence, "n": work.n}
            share = work.step / self.args.steps
            body = {"progress": self.counts(work), "overall_completion": share, "time_elapsed": self.elapsed(work)}
            self.say("job_progress", body, work.job_id, **marks)

    def counts(self, work):
        return [{"entity_type": "steps", "total_discovered": self.args.steps, "total_processed": work.step}]

    def elapsed(self, work):
        return int((time.monotonic() - work.began) * 1000)

    # Connecting

    def jitter(self):
        """Full jitter: crawlers that lost the same server do not come back together."""
        return random.uniform(0, min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** min(self.attempt, 10)))

    async def open(self):
        target = self.args.server
        if target.scheme == "unix":
            return await asyncio.open_unix_connection(target.path, limit=LINE_MAX)
        context = ssl.create_default_context(cafile=self.args.ca) if self.args.tls else None
        return await asyncio.open_connection(target.hostname, target.port, ssl=context, limit=LINE_MAX)

    async def connect(self):
        """One connection from hello to its end."""
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, self.writer = await self.open()
        self.reset()
        self.return_at = None
        hello = {
            "versions": [1],
            "features": ["cancel", "checkpoint"],
            "role": "crawler",
            "crawler_id": self.args.crawler_id,
            "instance_id": self.spool.instance,
            "slots": self.args.slots,
            "software": {"name": "crawler.py", "version": "1.0"},
            "holds": self.holds(),
        }
        token = os.environ.get("CRAWLER_TOKEN", "").strip()
        if token and (self.args.tls or self.args.server.scheme == "unix"):
            hello["token"] = token  # never over bare TCP
        self.say("hello", hello)
        tasks = [asyncio.create_task(it) for it in (self.listen(reader), self.pump(), self.beat())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.writer.close()
            self.writer = None
            # Jobs of the base protocol end with their connection; all others go on meanwhile.
            for key in [key for key in self.work if key[1] is None]:
                self.drop(key)
            self.changed.set()

    async def run(self):
        while self.exit_code is None:
            try:
                await self.connect()
                log.info("disconnected")
            except (OSError, TimeoutError) as error:
                log.warning("no connection: %s", error or "it takes too long")
            if self.exit_code is None:
                wait = self.jitter() if self.return_at is None else self.return_at - time.monotonic()
                self.attempt += 1
                self.return_at = None
                await asyncio.sleep(max(wait, 0))
        return self.exit_code

    async def leave(self):
        """Waits for a signal, gives the jobs back, and says goodbye."""
        await self.stop.wait()
        log.info("stopping")
        if self.mode == "session":
            self.say("job_request", {"slots": 0})
        for work in self.work.values():
            work.woken.set()
        try:
            async with asyncio.timeout(self.args.grace_ms / 1000):
                await self.until(lambda: not self.work and not self.spool.lines)
                if self.writer is not None and self.mode == "session":
                    self.say("goodbye", {"reason": "the process was told to stop"})
                    await self.until(lambda: self.writer is None)
        except TimeoutError:
            log.warning("%d messages are not settled", len(self.spool.lines))


async def main(args):
    # A task that fails, since the disk is full for instance, ends them all.
    async with asyncio.TaskGroup() as tasks:
        crawler = Crawler(args, tasks)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, crawler.stop.set)
        run, leave = tasks.create_task(crawler.run()), tasks.create_task(crawler.leave())
        await asyncio.wait({run, leave}, return_when=asyncio.FIRST_COMPLETED)
        for task in (run, leave, *(work.task for work in crawler.work.values() if work.task)):
            task.cancel()
    return 0 if crawler.stop.is_set() else crawler.exit_code


def address(text):
    target = urlsplit(text)
    if (target.scheme == "unix" and target.path) or (target.scheme == "tcp" and target.hostname and target.port):
        return target
    raise ValueError(text)


def arguments():
    parser = argparse.ArgumentParser(description="An example crawler for Crawlwire.")
    parser.add_argument("server", type=address, help="unix:///path or tcp://host:port; CRAWLER_TOKEN may hold a token")
    parser.add_argument("--tls", action="store_true", help="speak TLS on TCP")
    parser.add_argument("--ca", help="a file with the certificates to trust; those of the system when absent")
    parser.add_argument("--state", help="a file that makes a restarted process the same instance")
    parser.add_argument("--crawler-id", default="example", help="the name of this crawler, for people")
    parser.add_argument("--slots", type=int, default=2, help="jobs at a time")
    parser.add_argument("--steps", type=int, default=10, help="steps of a job")
    parser.add_argument("--step-ms", type=float, default=500, help="how long a step takes")
    parser.add_argument("--fail-every", type=int, default=0, metavar="N", help="every Nth job fails half-way")
    parser.add_argument("--grace-ms", type=float, default=5000, help="time to give jobs back on SIGTERM")
    args = parser.parse_args()
    if not 0 <= args.slots <= 1024 or args.steps < 1:
        parser.error("0 to 1024 slots, and a step or more")
    return args


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    code = "the state cannot be used; does another process use it?"
    try:
        code = asyncio.run(main(arguments()))
    except* sqlite3.Error as errors:
        log.error("%s", errors.exceptions[0])
    sys.exit(code)
