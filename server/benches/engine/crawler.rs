//! Crawlers of the base protocol that finish what they are given at once.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

const AT: &str = "2024-01-15T10:30:00Z";

pub(crate) struct Crawler {
    lines: Lines<BufReader<OwnedReadHalf>>,
    out: OwnedWriteHalf,
}

impl Crawler {
    pub(crate) async fn connect(socket: &Path) -> io::Result<Self> {
        let (read, mut out) = UnixStream::connect(socket).await?.into_split();
        let heartbeat = format!(
            "{{\"type\":\"heartbeat\",\"timestamp\":\"{AT}\",\
             \"data\":{{\"active_jobs\":0,\"last_activity\":\"{AT}\",\"system_status\":\"idle\"}}}}\n"
        );
        out.write_all(heartbeat.as_bytes()).await?;
        let lines = BufReader::new(read).lines();
        Ok(Self { lines, out })
    }

    /// The next job, with the moment in which its line was read; none when the server has hung up.
    async fn assigned(&mut self) -> io::Result<Option<(String, Instant)>> {
        while let Some(line) = self.lines.next_line().await? {
            let now = Instant::now();
            if line.contains("\"job_assignment\"")
                && let Some((_, rest)) = line.split_once("\"job_id\":\"")
                && let Some((job, _)) = rest.split_once('"')
            {
                return Ok(Some((job.to_owned(), now)));
            }
        }
        Ok(None)
    }

    /// Both lines at once: the protocol has no answer to wait for in between.
    async fn start_and_complete(&mut self, job: &str) -> io::Result<()> {
        let lines = format!(
            "{{\"type\":\"job_started\",\"timestamp\":\"{AT}\",\"job_id\":\"{job}\",\
             \"data\":{{\"job_type\":\"crawl_project\"}}}}\n\
             {{\"type\":\"job_completed\",\"timestamp\":\"{AT}\",\"job_id\":\"{job}\",\
             \"data\":{{\"job_type\":\"crawl_project\",\"final_counts\":[{{\"entity_type\":\"issues\",\
             \"total_discovered\":100,\"total_processed\":100}}],\"total_duration\":4000,\
             \"output_files\":[\"issues.jsonl\"],\"summary\":\"100 issues\"}}}}\n"
        );
        self.out.write_all(lines.as_bytes()).await
    }

    /// Works until the server hangs up; makes room for another job after each.
    pub(crate) async fn work(mut self, room: Arc<Semaphore>) -> io::Result<()> {
        while let Some((job, _)) = self.assigned().await? {
            self.start_and_complete(&job).await?;
            room.add_permits(1);
        }
        Ok(())
    }

    /// The same, and tells when each job came.
    pub(crate) async fn tell(mut self, arrivals: mpsc::Sender<Instant>) -> io::Result<()> {
        while let Some((job, at)) = self.assigned().await? {
            // Nobody listens when the measurement is over.
            let _ = arrivals.send(at).await;
            self.start_and_complete(&job).await?;
        }
        Ok(())
    }
}
