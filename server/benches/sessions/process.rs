//! Processes beside this one: servers that can be weighed and killed, and peers that must not disturb whoever measures.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::place::{self, Place};
use crate::wire::number;

/// The first argument of a process that plays peers.
const PEERS: &str = "peers";

/// Says that the limit of open files has been raised already.
const RAISED: &str = "BENCH_FILES_RAISED";

/// Ticks of a CPU clock in a second, as `/proc` counts them: Linux shows everybody 100, whatever its own are.
const TICKS: f64 = 100.0;

/// Memory has settled when it has changed by less than this part for so long.
const SETTLED: f64 = 0.002;
const SETTLING: Duration = Duration::from_secs(1);

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

/// Begins this program anew with as many open files as the system allows: each connection is one. Only a shell can ask
/// for that without unsafe code.
pub(crate) fn raise_file_limit() {
    if std::env::var_os(RAISED).is_some() {
        return;
    }
    let program = std::env::current_exe().expect("this program has a path");
    let error = Command::new("sh")
        .args(["-c", "ulimit -n \"$(ulimit -Hn)\"; exec \"$0\" \"$@\""])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(RAISED, "1")
        .exec();
    panic!("no shell: {error}");
}

/// The `crawlwire` binary as a process of its own. Killed when dropped.
pub(crate) struct ServerProcess {
    child: Child,
    /// Kept open, so that it can say more.
    _said: BufReader<ChildStdout>,
    http: SocketAddr,
    /// When it said that it listens.
    pub(crate) listening: Instant,
    /// How long that took.
    pub(crate) starting: Duration,
}

impl ServerProcess {
    /// As [`Place::start`]. What it logs goes to a file, as a service's log does.
    pub(crate) fn start(place: &Place, more: &[(&str, &str)]) -> Self {
        let log = place.0.dir().join("log");
        let begun = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_crawlwire"))
            .args(place.flags().iter().map(|(flag, value)| format!("{flag}={value}")))
            .envs(place::env(more))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log).expect("a log"))
            .spawn()
            .expect("the binary is built");
        let mut said = BufReader::new(child.stdout.take().expect("it was asked for"));
        let lines = said.by_ref().lines().map_while(Result::ok);
        let http = block_in_place(|| lines.filter_map(|line| http_address(&line)).next());
        let listening = Instant::now();
        let Some(http) = http else {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("the server did not start:\n{said}");
        };
        Self {
            child,
            _said: said,
            http,
            listening,
            starting: listening - begun,
        }
    }

    pub(crate) fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Bytes of memory that are its own and in use.
    pub(crate) fn resident(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<f64>().ok()).expect("kilobytes") * 1024.0
    }

    /// The same once that does not change any more.
    pub(crate) async fn settled(&self) -> f64 {
        let mut since = Instant::now();
        let mut resident = self.resident();
        while since.elapsed() < SETTLING {
            sleep(Duration::from_millis(100)).await;
            let now = self.resident();
            if (now - resident).abs() > resident * SETTLED {
                (since, resident) = (Instant::now(), now);
            }
        }
        self.resident()
    }

    /// Time that it kept a CPU busy.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // Behind the name, which may hold anything: the state is the third field, times are the 14th and 15th.
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: f64 = times.filter_map(|time| time.parse::<f64>().ok()).sum();
        Duration::from_secs_f64(ticks / TICKS)
    }

    fn proc(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.child.id());
        std::fs::read_to_string(path).expect("the server runs")
    }

    /// The body of an answer; none unless it is a good one.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let url = format!("http://{}{path}", self.http);
        block_in_place(|| ureq::get(url).call().ok()?.body_mut().read_to_string().ok())
    }

    /// Connections there are.
    pub(crate) fn connections(&self) -> usize {
        let body = self.get("/health/socket").expect("the server answers");
        number(&body, "connections").expect("a number") as usize
    }

    /// Waits until there are so many connections.
    pub(crate) async fn has_connections(&self, wanted: usize) {
        let begun = Instant::now();
        loop {
            let connections = self.connections();
            if connections == wanted {
                return;
            }
            let waited = begun.elapsed();
            assert!(
                waited < Duration::from_secs(60),
                "{connections} connections, not {wanted}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.end();
    }
}

fn http_address(line: &str) -> Option<SocketAddr> {
    line.trim()
        .strip_prefix("http ")?
        .trim()
        .strip_prefix("http://")?
        .trim_end_matches('/')
        .parse()
        .ok()
}

/// Peers in a process of their own, which plays them until it is stopped or this one ends.
pub(crate) struct Peers {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Peers {
    /// Starts peers of this kind with the lowest priority: what they cost is to be what the server does for them, and not
    /// what they take of the machine.
    pub(crate) fn start(kind: &str, socket: &Path, count: usize) -> Self {
        let mut child = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe().expect("this program has a path"))
            .args([PEERS, kind])
            .arg(socket)
            .arg(count.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started twice");
        let said = BufReader::new(child.stdout.take().expect("it was asked for"));
        Self { child, said }
    }

    /// The next line that it prints.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        block_in_place(|| self.said.read_line(&mut line)).expect("the peers say something");
        line
    }

    /// Ends it; what it has to say about it.
    pub(crate) fn stop(mut self) -> String {
        drop(self.child.stdin.take());
        self.says()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It has ended, or is of no use any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process that plays peers was asked for: kind, socket, how many. None in any other process.
pub(crate) fn asked_for_peers() -> Option<(String, String, usize)> {
    let mut arguments = std::env::args()
        .skip(1)
        .skip_while(|argument| argument != PEERS)
        .skip(1);
    let (kind, socket, count) = (arguments.next()?, arguments.next()?, arguments.next()?);
    Some((kind, socket, count.parse().ok()?))
}

/// In a process that plays peers: waits until it is to stop.
pub(crate) async fn until_stopped() {
    let waiting = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    // However it ends, nobody is there any more.
    let _ = waiting.await;
}
