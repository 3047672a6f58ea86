//! A crawler of the base protocol that does what comes into its mind.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::chance::Chance;
use crate::load::{Mood, Place, Tally};
use crate::support::crawler::message;

/// Jobs of the past that it may speak of once more.
const PAST_MAX: usize = 40;

/// A silence that is longer than the lease of these tests, and one beat that is not.
const NAP_MS: std::ops::Range<u64> = 1600..2200;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Out = WriteHalf<Box<dyn Stream>>;

/// A job it was given, whether or not it is still its own.
struct Given {
    id: String,
    job_type: String,
    started: bool,
}

pub(crate) struct Peer {
    pub(crate) chance: Chance,
    /// Over TCP the server does not know who it is, and no later connection of it takes anything over.
    pub(crate) over_tcp: bool,
    pub(crate) place: watch::Receiver<Option<Place>>,
    pub(crate) mood: watch::Receiver<Mood>,
    pub(crate) tally: Arc<Tally>,
    given: Vec<Given>,
    past: VecDeque<String>,
}

impl Peer {
    pub(crate) fn new(
        chance: Chance,
        over_tcp: bool,
        place: watch::Receiver<Option<Place>>,
        mood: watch::Receiver<Mood>,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            chance,
            over_tcp,
            place,
            mood,
            tally,
            given: Vec::new(),
            past: VecDeque::new(),
        }
    }

    /// Connects, works, is cut off, and comes back, until all is over.
    pub(crate) async fn run(mut self) {
        while self.mood() != Mood::Over {
            let place = self.place.borrow_and_update().clone();
            match place {
                Some(place) => {
                    if let Ok(stream) = self.connect(&place).await {
                        self.tally.add("connections");
                        // Its end is no news: servers die, and peers hang up.
                        let _ = self.converse(stream).await;
                    }
                    sleep(self.chance.millis(1..30)).await;
                }
                None => drop(timeout(Duration::from_millis(100), self.place.changed()).await),
            }
        }
    }

    fn mood(&self) -> Mood {
        *self.mood.borrow()
    }

    async fn connect(&self, place: &Place) -> io::Result<Box<dyn Stream>> {
        if self.over_tcp {
            let stream = TcpStream::connect(place.tcp).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        } else {
            Ok(Box::new(UnixStream::connect(&place.socket).await?))
        }
    }

    async fn converse(&mut self, stream: Box<dyn Stream>) -> io::Result<()> {
        let (read, mut out) = tokio::io::split(stream);
        let mut lines = BufReader::new(read).lines();
        self.heartbeat(&mut out).await?;
        self.come_back(&mut out).await?;
        while self.mood() != Mood::Over {
            let pace = self.chance.millis(2..20);
            match timeout(pace, lines.next_line()).await {
                Ok(Ok(Some(line))) => self.take(&line),
                Ok(end) => return end.map(drop),
                Err(_) if self.mood() == Mood::Wild => {
                    if !self.act(&mut out).await? {
                        return Ok(());
                    }
                }
                Err(_) => self.tidy_up(&mut out).await?,
            }
        }
        Ok(())
    }

    /// Names the jobs it had before, some of them, in one way or the other.
    async fn come_back(&mut self, out: &mut Out) -> io::Result<()> {
        for index in 0..self.given.len() {
            if !self.chance.one_in(4) {
                self.tally.add("named again");
                self.progress(out, index).await?;
            }
        }
        Ok(())
    }

    fn take(&mut self, line: &str) {
        let message: Value = serde_json::from_str(line).expect("the server speaks JSON");
        if message["type"] != "job_assignment" {
            return;
        }
        self.tally.add("assignments");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let id = text(&message["job_id"]);
        self.given.retain(|given| given.id != id);
        let job_type = text(&message["data"]["job_type"]);
        self.given.push(Given {
            id,
            job_type,
            started: false,
        });
    }

    /// One random thing. Says whether it stays.
    async fn act(&mut self, out: &mut Out) -> io::Result<bool> {
        if self.chance.one_in(150) {
            self.tally.add("hang-ups");
            return Ok(false);
        }
        if self.chance.one_in(500) {
            self.tally.add("naps");
            sleep(self.chance.millis(NAP_MS)).await;
        }
        if self.chance.one_in(20) {
            self.heartbeat(out).await?;
        }
        if self.chance.one_in(25)
            && let Some(job) = self.chance.pick(self.past.make_contiguous()).cloned()
        {
            self.tally.add("late lines");
            let (type_name, data) = self.last_word();
            self.say(out, type_name, &job, &data).await?;
        }
        if !self.given.is_empty() {
            let index = self.chance.below(self.given.len());
            self.work(out, index).await?;
        }
        Ok(true)
    }

    async fn work(&mut self, out: &mut Out, index: usize) -> io::Result<()> {
        if self.chance.one_in(60) {
            self.tally.add("forgotten");
            self.put_away(index);
            return Ok(());
        }
        let Given { id, job_type, started } = &self.given[index];
        let (id, level) = (id.clone(), level(job_type));
        let implied = self.chance.one_in(6);
        if !started && !implied {
            self.given[index].started = true;
            return self.say(out, "job_started", &id, &json!({ "job_type": "x" })).await;
        }
        self.given[index].started = true;
        match self.chance.below(10) {
            0..4 => self.progress(out, index).await,
            4..6 if level < 2 => self.discover(out, &id, level).await,
            _ => {
                let (type_name, data) = self.last_word();
                self.put_away(index);
                self.say(out, type_name, &id, &data).await
            }
        }
    }

    /// Brings everything that is left to an end.
    async fn tidy_up(&mut self, out: &mut Out) -> io::Result<()> {
        for given in std::mem::take(&mut self.given) {
            self.say(out, "job_completed", &given.id, &completed()).await?;
        }
        self.heartbeat(out).await
    }

    fn put_away(&mut self, index: usize) {
        self.past.push_back(self.given.swap_remove(index).id);
        if self.past.len() > PAST_MAX {
            self.past.pop_front();
        }
    }

    /// An end: good, bad, or hopeless.
    fn last_word(&mut self) -> (&'static str, Value) {
        match self.chance.below(10) {
            0..6 => ("job_completed", completed()),
            6 => ("job_failed", failed(false)),
            _ => ("job_failed", failed(true)),
        }
    }

    async fn progress(&mut self, out: &mut Out, index: usize) -> io::Result<()> {
        let id = self.given[index].id.clone();
        let counts = json!([{ "entity_type": "issues", "total_discovered": 9, "total_processed": 3 }]);
        let data = json!({ "progress": counts, "overall_completion": 0.3, "time_elapsed": 15 });
        self.say(out, "job_progress", &id, &data).await
    }

    /// A few children out of a small world, so that many are found twice; sometimes the whole batch is said twice.
    async fn discover(&mut self, out: &mut Out, id: &str, level: usize) -> io::Result<()> {
        let job_type = ["crawl_group", "crawl_project"][level];
        let items: Vec<_> = (0..=self.chance.below(2))
            .map(|_| {
                let entity = format!("e{}", self.chance.below(6));
                json!({
                    "job_type": job_type, "entity_id": entity, "namespace_path": entity, "entity_name": entity,
                    "priority": self.chance.below(3),
                })
            })
            .collect();
        let data = json!({ "discovered_jobs": items, "discovery_summary": {} });
        self.tally.add("batches");
        self.say(out, "jobs_discovered", id, &data).await?;
        if self.chance.one_in(3) {
            self.tally.add("batches said twice");
            self.say(out, "jobs_discovered", id, &data).await?;
        }
        Ok(())
    }

    async fn heartbeat(&mut self, out: &mut Out) -> io::Result<()> {
        let data = json!({ "active_jobs": self.given.len(), "last_activity": "t", "system_status": "idle" });
        self.write(out, &message("heartbeat", None, &data)).await
    }

    async fn say(&mut self, out: &mut Out, type_name: &str, job: &str, data: &Value) -> io::Result<()> {
        self.write(out, &message(type_name, Some(job), data)).await
    }

    async fn write(&mut self, out: &mut Out, line: &str) -> io::Result<()> {
        self.tally.add("lines");
        out.write_all(format!("{line}\n").as_bytes()).await
    }
}

/// How deep a job of this type is. The deepest finds nothing, so that trees end.
fn level(job_type: &str) -> usize {
    match job_type {
        "discover_namespaces" => 0,
        "crawl_group" => 1,
        _ => 2,
    }
}

fn completed() -> Value {
    let counts = json!([{ "entity_type": "issues", "total_discovered": 9, "total_processed": 9 }]);
    json!({ "job_type": "x", "final_counts": counts, "total_duration": 40, "output_files": [], "summary": "done" })
}

fn failed(recoverable: bool) -> Value {
    let error = json!({ "error_type": "HttpError", "error_message": "503", "is_recoverable": recoverable });
    json!({ "job_type": "x", "error_context": error })
}
