//! The real binary, in a directory of its own, on a database of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crawlwire_persistence::config::KEY_FILE_NAME;
use crawlwire_persistence::testing::TestDatabase;
use tempfile::TempDir;
use tokio::time::Instant;

use super::session::hello;
use super::{Api, Crawler, DEADLINE, LiveStream, SessionCrawler, wait_until};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_crawlwire");

/// A database on PostgreSQL, where there is one.
pub(crate) fn postgres() -> Option<TestDatabase> {
    block_on(TestDatabase::postgres())
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// How a server is to be started.
pub(crate) struct Setup {
    dir: TempDir,
    database: Arc<TestDatabase>,
    settings: Vec<(&'static str, String)>,
    socket: PathBuf,
    http: SocketAddr,
    flags: Vec<String>,
}

impl Setup {
    /// Room for many crawlers, and times so long that nothing happens by the clock; a test shortens what it is about.
    pub(crate) fn new(database: TestDatabase) -> Self {
        Self::over(Arc::new(database))
    }

    /// Another server on the same database.
    pub(crate) fn beside(server: &TestServer) -> Self {
        let setup = Self::over(server.setup.database.clone());
        // Servers that share a database share the key to its tokens.
        let (theirs, ours) = (server.setup.data_dir(), setup.data_dir());
        std::fs::create_dir(&ours).expect("a directory");
        std::fs::copy(theirs.join(KEY_FILE_NAME), ours.join(KEY_FILE_NAME)).expect("a key");
        setup
    }

    fn over(database: Arc<TestDatabase>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let setup = Self {
            socket: dir.path().join("crawler.sock"),
            http: ([127, 0, 0, 1], 0).into(),
            dir,
            database,
            settings: Vec::new(),
            flags: Vec::new(),
        };
        setup
            .set("CRAWLWIRE_PROFILE", "test")
            .set("SOCKET_LOG_LEVEL", "debug")
            .set("SOCKET_MAX_CONNECTIONS", 50)
            .set("SOCKET_HEARTBEAT_INTERVAL", 10_000)
            .set("SOCKET_HEARTBEAT_TIMEOUT", 60_000)
            .set("SOCKET_REATTACH_GRACE", 30_000)
            .set("SOCKET_SWEEP_INTERVAL", 50)
            .set("SOCKET_PROGRESS_UNWATCHED_INTERVAL", 10)
    }

    /// A variable of the server's environment.
    pub(crate) fn set(mut self, name: &'static str, value: impl ToString) -> Self {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_string()));
        self
    }

    /// Another place for the socket.
    pub(crate) fn socket_at(mut self, path: PathBuf) -> Self {
        self.socket = path;
        self
    }

    /// Another address for HTTP.
    pub(crate) fn http_at(mut self, address: SocketAddr) -> Self {
        self.http = address;
        self
    }

    /// One more flag.
    pub(crate) fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn start(self) -> TestServer {
        let mut server = TestServer {
            setup: self,
            running: None,
            http: ([127, 0, 0, 1], 0).into(),
            tcp: None,
        };
        server.start();
        server
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command
            .env_clear()
            .env("DATABASE_URL", self.database.config().url)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir())
            .arg("--socket")
            .arg(&self.socket)
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--http", &self.http.to_string()])
            .args(&self.flags);
        command
    }

    /// Starts one that cannot run; its exit status and what it says.
    pub(crate) fn refused(&self) -> (Option<i32>, String) {
        let output = assert_cmd::Command::from_std(self.command()).timeout(DEADLINE).output();
        let output = output.expect("the binary starts");
        assert!(output.stdout.is_empty(), "it says that it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Another command of the program, on the same data: how it ended, and what it said on both streams.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let command = self.other_command(arguments);
        let output = assert_cmd::Command::from_std(command).timeout(DEADLINE).output();
        let output = output.expect("the binary starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    pub(crate) fn other_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .env_clear()
            .env("DATABASE_URL", self.database.config().url)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .env("SOCKET_DATA_DIR", self.data_dir())
            .current_dir(self.dir())
            .args(arguments);
        command
    }

    fn data_dir(&self) -> PathBuf {
        self.dir().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.dir().join("log")
    }
}

/// A running server. Dropped, it is killed; its log is shown when the test has failed.
pub(crate) struct TestServer {
    setup: Setup,
    running: Option<Child>,
    pub(crate) http: SocketAddr,
    pub(crate) tcp: Option<SocketAddr>,
}

impl TestServer {
    /// Starts it, again on the same data after an end.
    pub(crate) fn start(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(self.setup.log_path());
        let mut command = self.setup.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("a file for the log"));
        let mut child = command.spawn().expect("the binary starts");
        let output = child.stdout.take().expect("it is piped");
        self.running = Some(child);
        let welcome = read_welcome(output);
        let address = |name: &str| {
            let line = welcome.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {welcome:?}")).trim()
        };
        let http = address("http").trim_start_matches("http://").trim_end_matches('/');
        self.http = http.parse().expect("an address");
        let tcp = address("crawlers")
            .split_whitespace()
            .find_map(|it| it.strip_prefix("tcp://"));
        self.tcp = tcp.map(|address| address.parse().expect("an address"));
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.setup.socket.clone()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.setup.dir()
    }

    /// How it was started.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(self.http)
    }

    /// A viewer of what happens from now on.
    pub(crate) fn stream(&self) -> LiveStream {
        LiveStream::open(self.http)
    }

    /// A crawler of this process that has said nothing yet.
    pub(crate) fn connect(&self) -> Crawler {
        Crawler::unix(&self.socket())
    }

    /// A crawler of this process that is ready for work.
    pub(crate) fn crawler(&self) -> Crawler {
        let mut crawler = self.connect();
        crawler.introduce(&self.api());
        crawler
    }

    /// A crawler of the session protocol, on the Unix socket.
    pub(crate) fn session(&self, crawler_id: &str, instance: u64) -> SessionCrawler {
        SessionCrawler::begin(self.connect(), hello(crawler_id, instance))
    }

    /// The same as a process of its own.
    pub(crate) fn crawler_process(&self) -> Crawler {
        let mut crawler = Crawler::process(&self.socket());
        crawler.introduce(&self.api());
        crawler
    }

    /// Where it keeps everything.
    pub(crate) fn database(&self) -> &TestDatabase {
        &self.setup.database
    }

    /// Runs a statement past the server, on its database.
    pub(crate) fn execute(&self, statement: &str) -> u64 {
        block_on(self.database().execute(statement)).expect("the database takes it")
    }

    /// What the server has logged, over all its runs.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.setup.log_path()).unwrap_or_default()
    }

    /// The end of a process that nobody announced.
    pub(crate) fn kill(&mut self) {
        let mut child = self.running.take().expect("it runs");
        child.kill().expect("a signal");
        child.wait().expect("an end");
    }

    /// Sends a signal and does not wait for what comes of it.
    pub(crate) fn signal(&self, signal: &str) {
        self::signal(self.running.as_ref().expect("it runs"), signal);
    }

    /// Sends a signal (`TERM`, `INT`); how it ended, and how long that took.
    pub(crate) fn stop(&mut self, signal: &str) -> (ExitStatus, Duration) {
        self.signal(signal);
        self.ended()
    }

    /// Waits for its end; how it ended, and how long that took.
    pub(crate) fn ended(&mut self) -> (ExitStatus, Duration) {
        let mut child = self.running.take().expect("it runs");
        let since = Instant::now();
        let status = wait_until("the server ends", || child.try_wait().expect("a child"));
        (status, since.elapsed())
    }
}

impl Drop for TestServer {
    #[expect(clippy::print_stderr, reason = "this is where one looks when a test has failed")]
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}---", self.log());
        }
    }
}

/// Sends a signal with the shell's own `kill`, since the standard library knows only one. After `STOP` it stands still.
pub(crate) fn signal(child: &Child, signal: &str) {
    let command = format!("kill -{signal} {}", child.id());
    let sent = Command::new("sh").args(["-c", &command]).status().expect("a shell");
    assert!(sent.success(), "{command} failed");
    if signal == "STOP" {
        wait_until("it stands still", || stands_still(child).then_some(()));
    }
}

/// Whether all threads of a process are stopped: where there is little time to run, they stop one long after the other.
fn stands_still(child: &Child) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("a process");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which may hold anything.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}

/// What the server says once it serves, up to the first blank line.
fn read_welcome(output: ChildStdout) -> String {
    let (said, saying) = sync_channel(1);
    std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        let welcome: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let _ = said.send(welcome.join("\n"));
    });
    let welcome = saying.recv_timeout(DEADLINE).expect("a server that starts");
    assert!(!welcome.is_empty(), "the server did not start");
    welcome
}
