//! What may be typed after `crawlwire` to talk to a running server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;
use crawlwire_transport::Endpoint;

use super::server::ServerUrl;
use crate::cli::ConfigFlags;

const AFTER_HELP: &str = "\
Exit status: 0 when it was done, 1 when the server refused or it failed, 2 when the command line is not valid, 4 when no \
server answers.";

const AFTER_WATCH: &str = "\
Exit status: 0 when the watched tree ended well, 1 when it failed, was cancelled or deleted, 2 when the command line is not \
valid, 4 when no server answers, 130 after Ctrl-C. Without an ID it ends with Ctrl-C only.";

const AFTER_STATUS: &str = "\
Exit status: 0 when the server is ready, 1 when it is not, 2 when the command line is not valid, 4 when no server answers.";

const AFTER_DOCTOR: &str = "\
Exit status: 0 when nothing keeps a server from working, also with warnings, 1 when there are problems, 2 when the command \
line is not valid.";

const AFTER_BENCH: &str = "\
The crawlers connect to the server's own socket, so it has to run on this machine unless --listen names it. More crawlers \
than its max_connections are turned away; a rate limit shows in the figures.

Exit status: 0 when it was done, 1 when it failed, or the server has other jobs, 2 when the command line is not valid, 4 when \
no server answers, 130 after Ctrl-C.";

/// Which server, and in which form it is to answer.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Target {
    /// Where the server's HTTP interface is
    #[arg(
        long,
        value_name = "URL",
        env = "CRAWLWIRE_SERVER",
        default_value = "http://127.0.0.1:8090"
    )]
    #[arg(value_parser = ServerUrl::parse)]
    pub server: ServerUrl,
    /// Print JSON, as the HTTP interface has it
    #[arg(long)]
    pub json: bool,
}

/// What can be asked of a running server.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Show how a running server is doing
    #[command(after_help = AFTER_STATUS)]
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// List jobs, newest first
    #[command(after_help = AFTER_HELP)]
    Jobs(JobsArgs),
    /// Show a job: how far it is, what it found, what happened to it
    #[command(after_help = AFTER_HELP)]
    Job {
        /// The job, by its id or by the name that the web app gave it
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Follow a job with everything below it, or all jobs, live
    ///
    /// Shows bars on a terminal, else a line for each change; with --json each event of the live stream on a line.
    #[command(after_help = AFTER_WATCH)]
    Watch {
        /// Any job of the tree; all that runs when there is none
        id: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Submit a job, or a file of them; print their ids
    #[command(after_help = AFTER_HELP)]
    Submit(Box<SubmitArgs>),
    /// End jobs
    #[command(after_help = AFTER_HELP)]
    Cancel(CancelArgs),
    /// Hold jobs back until they are resumed
    #[command(after_help = AFTER_HELP)]
    Pause(ActArgs),
    /// Let paused jobs go on
    #[command(after_help = AFTER_HELP)]
    Resume(ActArgs),
    /// Put failed or cancelled jobs into the queue again
    #[command(after_help = AFTER_HELP)]
    Retry(RetryArgs),
    /// List the crawlers connected to a server
    #[command(after_help = AFTER_HELP)]
    Crawlers {
        #[command(flatten)]
        target: Target,
    },
    /// Show what went wrong, newest first
    #[command(after_help = AFTER_HELP)]
    Errors(ErrorsArgs),
    /// Say why a job does not move, and what would help
    #[command(after_help = AFTER_HELP)]
    Explain {
        /// The job
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Have a server give out no more jobs and let its crawlers finish
    #[command(after_help = AFTER_HELP)]
    Drain(DrainArgs),
    /// Look whether a server could work here, and say what to do where not
    ///
    /// Takes the settings of a server and looks at its addresses, folders, database, and the machine. Needs no running
    /// server, and changes nothing.
    #[command(after_help = AFTER_DOCTOR)]
    Doctor(Box<DoctorArgs>),
    /// Drive a running server with simulated crawlers and jobs, and print how fast it is
    ///
    /// Its jobs are of the account crawlwire-bench, and are deleted at the end.
    #[command(after_help = AFTER_BENCH)]
    Bench(BenchArgs),
    /// Print a script that completes commands in a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the page of the manual, in roff
    Man,
}

impl Command {
    /// Which server it is about; none for what needs none.
    pub fn target(&self) -> Option<&Target> {
        Some(match self {
            Self::Status { target }
            | Self::Job { target, .. }
            | Self::Watch { target, .. }
            | Self::Crawlers { target }
            | Self::Explain { target, .. } => target,
            Self::Jobs(args) => &args.target,
            Self::Submit(args) => &args.target,
            Self::Cancel(args) => &args.act.target,
            Self::Pause(args) | Self::Resume(args) => &args.target,
            Self::Retry(args) => &args.act.target,
            Self::Errors(args) => &args.target,
            Self::Drain(args) => &args.target,
            Self::Bench(args) => &args.target,
            Self::Doctor(_) | Self::Completions { .. } | Self::Man => return None,
        })
    }
}

/// Arguments of `jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct JobsArgs {
    /// Only jobs of this status, or one of several with commas between
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Only jobs of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub job_type: Option<String>,
    /// Only jobs of this account
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Only jobs on this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only jobs with this tag
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Only jobs of the tree that this job is the top of
    #[arg(long, value_name = "ID")]
    pub root: Option<String>,
    /// Only jobs with this text in a name, path or account
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "all")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// All there are
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `submit`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SubmitArgs {
    /// A file with a job on each line, in JSON; standard input when it is `-`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fields", "watch"])]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub fields: JobFields,
    /// Follow it until it has ended, as `crawlwire watch` does
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub target: Target,
}

/// The fields of a new job.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[group(id = "fields")]
pub struct JobFields {
    /// What to do: discover_namespaces, crawl_user, crawl_group or crawl_project
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "file")]
    pub job_type: Option<String>,
    /// Whose job
    #[arg(long, value_name = "ACCOUNT", required_unless_present = "file")]
    pub account: Option<String>,
    /// Where: a host, or its URL
    #[arg(long, value_name = "HOST", required_unless_present = "file")]
    pub host: Option<String>,
    /// What to crawl, by its number on the host
    #[arg(long, value_name = "ID")]
    pub entity: Option<String>,
    /// What to crawl, by its path
    #[arg(long, value_name = "PATH")]
    pub namespace: Option<String>,
    /// A name of your own, unique over all jobs; with it a submission can be repeated without fear
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Higher runs first; one point is worth a minute of waiting
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = finite)]
    pub priority: Option<serde_json::Number>,
    /// A word that its crawler must have; may be given more than once
    #[arg(long = "label", value_name = "WORD")]
    pub labels: Vec<String>,
    /// A word to find it by; may be given more than once
    #[arg(long = "tag", value_name = "WORD")]
    pub tags: Vec<String>,
    /// An object that is kept with it, in JSON
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub metadata: Option<serde_json::Value>,
    /// Not before this time, such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub run_at: Option<String>,
    /// A file with the token for this account and host; standard input when it is `-`. There is no flag for the token
    /// itself: other users can read flags
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Have the crawler go on where an earlier job stopped
    #[arg(long)]
    pub resume: bool,
    /// gitlab-onprem or gitlab-cloud
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
    /// On whose behalf
    #[arg(long, value_name = "ID")]
    pub user_id: Option<String>,
    /// Who submits it
    #[arg(long, value_name = "ID")]
    pub created_by_user_id: Option<String>,
    /// How long an attempt may take, in place of the setting
    #[arg(long, value_name = "MS")]
    pub job_timeout_ms: Option<u64>,
    /// How often it is tried again, in place of the setting
    #[arg(long, value_name = "N")]
    pub retry_attempts: Option<u64>,
    /// How long to wait before the first time, in place of the setting
    #[arg(long, value_name = "MS")]
    pub retry_delay_ms: Option<u64>,
}

fn finite(text: &str) -> Result<serde_json::Number, String> {
    let number = text.parse().ok().and_then(serde_json::Number::from_f64);
    number.ok_or_else(|| "expected a number".to_owned())
}

fn object(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        Ok(_) => Err("expected an object in JSON, such as {\"ticket\":7}".to_owned()),
        Err(error) => Err(format!("this is no JSON: {error}")),
    }
}

/// Which jobs, and who asks.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ActArgs {
    /// The jobs
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// Who does it, for the record; your user name when it is not given
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Do not ask when jobs of several trees are concerned
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CancelArgs {
    /// Everything below them, too; they must be the tops of their trees
    #[arg(long)]
    pub tree: bool,
    #[command(flatten)]
    pub act: ActArgs,
}

/// Arguments of `retry`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RetryArgs {
    /// Also jobs that were paused because no crawler ever began them
    #[arg(long)]
    pub quarantined: bool,
    #[command(flatten)]
    pub act: ActArgs,
}

/// Arguments of `errors`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ErrorsArgs {
    /// Go on and show each error as it comes, oldest first
    #[arg(long)]
    pub follow: bool,
    /// Only errors of this category
    #[arg(long, value_name = "CATEGORY")]
    pub category: Option<String>,
    /// Only errors of this severity: low, medium, high or critical
    #[arg(long, value_name = "SEVERITY")]
    pub severity: Option<String>,
    /// Only errors of this job
    #[arg(long, value_name = "ID")]
    pub job: Option<String>,
    /// At most so many of those there are
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `drain`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DrainArgs {
    /// Have it give out jobs again
    #[arg(long)]
    pub undo: bool,
    /// Who does it, for the record; your user name when it is not given
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub flags: ConfigFlags,
}

/// Arguments of `bench`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BenchArgs {
    /// The server's Unix socket
    #[arg(
        long,
        value_name = "PATH",
        env = "SOCKET_PATH",
        default_value = "/tmp/crawler-socket.sock"
    )]
    pub socket: PathBuf,
    /// Connect crawlers over TCP instead: tcp://127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<Endpoint>,
    /// A file with a token for the crawlers, where the server wants one
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How many crawlers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = crawlers)]
    pub crawlers: usize,
    /// Jobs at a time of each crawler
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    pub slots: u16,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// How long one job may take before something is wrong
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub patience: u64,
    /// Also when the server has other jobs that are not over
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Each crawler is a connection, and each of its slots a thread here.
fn crawlers(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=64).contains(count));
    count.ok_or_else(|| "expected a number from 1 to 64".to_owned())
}
