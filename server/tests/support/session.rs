//! A crawler of the session protocol, line by line: it numbers what lasts, keeps it until it is settled, and says it again
//! when it comes back.

use std::collections::VecDeque;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::crawler::Assignment;
use super::{Crawler, DEADLINE};

const TIMESTAMP: &str = "2024-01-15T10:30:00Z";

/// One instance of a crawler. Its connection may be another one after a while.
pub(crate) struct SessionCrawler {
    pub(crate) line: Crawler,
    /// What it says of itself.
    pub(crate) hello: Value,
    /// The server's answer.
    pub(crate) welcome: Value,
    /// What lasts and is not settled yet, with its number, oldest first.
    pub(crate) outbox: VecDeque<(u64, String)>,
    last_number: u64,
    last_n: u64,
    /// What was heard and nobody has asked for yet.
    heard: VecDeque<Value>,
}

/// What a crawler says first; a test changes what it is about.
pub(crate) fn hello(crawler_id: &str, instance: u64) -> Value {
    json!({
        "versions": [1], "features": ["cancel", "checkpoint", "zstd", "future"], "role": "crawler",
        "crawler_id": crawler_id, "instance_id": format!("00000000-0000-4000-8000-{instance:012}"), "slots": 4,
        "software": { "name": "scenario", "version": "1.0" },
    })
}

/// The same with a token.
pub(crate) fn hello_with(crawler_id: &str, instance: u64, token: &str) -> Value {
    let mut greeting = hello(crawler_id, instance);
    greeting["token"] = token.into();
    greeting
}

/// Says this hello, which is refused, and waits for the end: the code of the error, and the reason of the goodbye if there
/// is one.
#[track_caller]
pub(crate) fn refused(mut line: Crawler, greeting: &Value) -> (String, Option<String>) {
    line.send_line(&session_line("hello", None, &Value::Null, greeting));
    let error = line.recv().expect("an error, and not the end");
    assert_eq!(error["type"], "error", "{error}");
    let code = error["data"]["code"].as_str().expect("a code").to_owned();
    let mut reason = None;
    while let Some(last) = line.recv() {
        assert_eq!(last["type"], "goodbye", "{last}");
        reason = last["data"]["reason"].as_str().map(str::to_owned);
    }
    (code, reason)
}

/// A line of the session dialect.
pub(crate) fn session_line(type_name: &str, job: Option<&str>, marks: &Value, data: &Value) -> String {
    let mut message = json!({ "type": type_name, "timestamp": TIMESTAMP, "data": data });
    if let Some(job) = job {
        message["job_id"] = job.into();
    }
    for (mark, value) in marks.as_object().into_iter().flatten() {
        message[mark] = value.clone();
    }
    message.to_string()
}

impl SessionCrawler {
    /// Says hello and waits for the welcome.
    #[track_caller]
    pub(crate) fn begin(line: Crawler, hello: Value) -> Self {
        let mut crawler = Self {
            line,
            hello,
            welcome: Value::Null,
            outbox: VecDeque::new(),
            last_number: 0,
            last_n: 0,
            heard: VecDeque::new(),
        };
        crawler.greet();
        crawler
    }

    #[track_caller]
    fn greet(&mut self) {
        self.line
            .send_line(&session_line("hello", None, &Value::Null, &self.hello));
        let welcome = self.line.recv().expect("a welcome, and not the end");
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        self.welcome = welcome["data"].clone();
        self.settled(self.welcome["high_water_seq"].as_u64().expect("a number"));
    }

    /// Comes back over another connection, and says again what was not settled.
    #[track_caller]
    pub(crate) fn come_back(&mut self, line: Crawler, holds: &[&Assignment]) {
        let hold = |job: &&Assignment| json!({ "job_id": job.id, "fence": job.fence() });
        self.hello["holds"] = holds.iter().map(hold).collect();
        self.line = line;
        self.heard.clear();
        self.greet();
        for (_, line) in &self.outbox {
            self.line.send_line(line);
        }
    }

    fn settled(&mut self, number: u64) {
        self.outbox.retain(|(pending, _)| *pending > number);
    }

    /// Says something that lasts; its number.
    pub(crate) fn lasting(&mut self, type_name: &str, job: &Assignment, data: &Value) -> u64 {
        self.last_number += 1;
        let marks = json!({ "seq": self.last_number, "fence": job.fence() });
        let line = session_line(type_name, Some(&job.id), &marks, data);
        self.line.send_line(&line);
        self.outbox.push_back((self.last_number, line));
        self.last_number
    }

    pub(crate) fn started(&mut self, job: &Assignment) -> u64 {
        self.lasting("job_started", job, &json!({ "job_type": "crawl_project" }))
    }

    pub(crate) fn checkpoint(&mut self, job: &Assignment, cursor: &Value) -> u64 {
        self.lasting("checkpoint", job, &json!({ "cursor": cursor }))
    }

    pub(crate) fn completed(&mut self, job: &Assignment) -> u64 {
        let data = json!({
            "job_type": "crawl_project", "final_counts": [], "total_duration": 4000,
            "output_files": ["issues.jsonl"], "summary": "100 issues",
        });
        self.lasting("job_completed", job, &data)
    }

    pub(crate) fn progress(&mut self, job: &Assignment, completion: f64) {
        self.last_n += 1;
        let marks = json!({ "fence": job.fence(), "n": self.last_n });
        let counts = json!([{ "entity_type": "issues", "total_discovered": 100, "total_processed": 7 }]);
        let data = json!({ "progress": counts, "overall_completion": completion, "time_elapsed": 1500 });
        self.line
            .send_line(&session_line("job_progress", Some(&job.id), &marks, &data));
    }

    /// Says something that does not last and is about no job.
    pub(crate) fn say(&mut self, type_name: &str, data: &Value) {
        self.line.send_line(&session_line(type_name, None, &Value::Null, data));
    }

    /// The next message, after what it means for numbers was noted. None when the server has hung up.
    #[track_caller]
    fn hear(&mut self) -> Option<Value> {
        let message = self.line.recv()?;
        let number = message["data"]["seq"].as_u64();
        match message["type"].as_str() {
            Some("ack") => self.settled(number.expect("a number")),
            Some("error") if message["data"]["retryable"] == false => {
                if let Some(number) = number {
                    self.settled(number);
                }
            }
            Some("ping") => self.say("pong", &message["data"].clone()),
            _ => {}
        }
        Some(message)
    }

    /// The next message of this type; others are kept for whoever asks for them.
    #[track_caller]
    pub(crate) fn expect(&mut self, type_name: &str) -> Value {
        if let Some(place) = self.heard.iter().position(|message| message["type"] == type_name) {
            return self.heard.remove(place).expect("it is there");
        }
        let until = Instant::now() + DEADLINE;
        loop {
            let message = self.hear().unwrap_or_else(|| panic!("the end, and no {type_name}"));
            if message["type"] == type_name {
                return message;
            }
            self.heard.push_back(message);
            // Pings come whatever else does not.
            assert!(Instant::now() < until, "no {type_name} in {:?}", self.heard);
        }
    }

    /// Whether a message of this type has come, and nobody has asked for it.
    pub(crate) fn has_heard(&self, type_name: &str) -> bool {
        self.heard.iter().any(|message| message["type"] == type_name)
    }

    #[track_caller]
    pub(crate) fn assignment(&mut self) -> Assignment {
        let message = self.expect("job_assignment");
        let mut data = message["data"].clone();
        data["fence"] = message["fence"].clone();
        let id = message["job_id"].as_str().expect("an id").to_owned();
        Assignment { id, data }
    }

    /// Waits until everything that lasts is settled.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        while !self.outbox.is_empty() {
            let message = self.hear().expect("an acknowledgement, and not the end");
            self.heard.push_back(message);
        }
    }

    /// Waits until the server hangs up; the last message before that.
    #[track_caller]
    pub(crate) fn last_words(&mut self) -> Value {
        while let Some(message) = self.hear() {
            self.heard.push_back(message);
        }
        self.heard.pop_back().expect("a word before the end")
    }

    /// Goes away without a word.
    pub(crate) fn vanish(&mut self) {
        self.line.hang_up();
    }
}
