//! A crawler of the session dialect that says what it is told to say.

use std::time::Duration;

use crawlwire_progress::Policy;
use crawlwire_protocol::message::{ErrorReply, JobAssignment, Welcome};
use crawlwire_protocol::{Envelope, Message, WebAppMessage};
use crawlwire_router::{Closing, Origin, Processed, RouterConfig};
use serde_json::{Value, json};

use crate::support::*;

pub(crate) struct Client {
    pub(crate) line: Crawler,
    /// The number of the last lasting message.
    pub(crate) seq: u64,
}

/// The `data` of a good greeting of an instance.
pub(crate) fn hello(instance: u8) -> Value {
    json!({
        "versions": [7, 1], "features": ["cancel", "checkpoint", "time_travel"], "role": "crawler",
        "crawler_id": "worker", "instance_id": instance_id(instance), "slots": 2,
    })
}

/// A greeting that differs in some fields; those that are null are left out.
pub(crate) fn hello_with(instance: u8, other: Value) -> Value {
    let mut hello = hello(instance);
    let (fields, other) = (hello.as_object_mut().unwrap(), other.as_object().unwrap().clone());
    fields.extend(other);
    fields.retain(|_, value| !value.is_null());
    hello
}

pub(crate) fn instance_id(instance: u8) -> String {
    format!("0192f0c1-7a3b-7cde-8f01-0000000000{instance:02x}")
}

pub(crate) fn line(type_name: &str, data: Value) -> String {
    json!({ "type": type_name, "timestamp": "now", "data": data }).to_string()
}

/// A line about a job.
pub(crate) fn about(type_name: &str, job: &str, data: Value) -> String {
    json!({ "type": type_name, "timestamp": "now", "job_id": job, "data": data }).to_string()
}

/// A line with marks.
pub(crate) fn marked(line: &str, marks: Value) -> String {
    let mut line: Value = serde_json::from_str(line).unwrap();
    line.as_object_mut().unwrap().extend(marks.as_object().unwrap().clone());
    line.to_string()
}

/// A heartbeat that lists leases.
pub(crate) fn heartbeat(leases: &[(&str, i64)]) -> String {
    let jobs: Vec<_> = leases
        .iter()
        .map(|(job, fence)| json!({ "job_id": job, "fence": fence }))
        .collect();
    let data = json!({ "active_jobs": jobs.len(), "last_activity": "now", "system_status": "idle", "jobs": jobs });
    line("heartbeat", data)
}

/// A server in which only what is done happens, but for what looks after sessions.
pub(crate) async fn quiet() -> Server {
    Server::by_hand_with(calm(), Policy::default()).await
}

/// Nobody is found silent.
pub(crate) fn calm() -> RouterConfig {
    let mut config = config();
    config.hello.heartbeat_interval = Duration::from_secs(1000);
    config.hello.heartbeat_timeout = Duration::from_secs(3000);
    config
}

/// Lets so much time pass that the next heartbeat counts.
pub(crate) async fn until_the_next_beat() {
    tokio::time::advance(calm().hello.heartbeat_interval / 2).await;
}

impl Server {
    /// Greets, and is welcome.
    pub(crate) async fn session(&self, instance: u8) -> Client {
        self.welcome(hello(instance)).await.0
    }

    pub(crate) async fn welcome(&self, hello: Value) -> (Client, Welcome) {
        let mut client = self.greet(Origin::Memory, hello).await;
        let welcome = client.welcomed().await;
        client.seq = welcome.high_water_seq.get();
        (client, welcome)
    }

    /// Greets, whatever the answer.
    pub(crate) async fn greet(&self, origin: Origin, hello: Value) -> Client {
        let line = self.connect_from(origin);
        line.say(self::line("hello", hello)).await;
        Client { line, seq: 0 }
    }
}

impl Client {
    /// A line under the next number.
    pub(crate) fn next(&mut self, line: &str, fence: i64) -> String {
        self.seq += 1;
        self.numbered(self.seq, line, fence)
    }

    pub(crate) fn numbered(&self, seq: u64, line: &str, fence: i64) -> String {
        marked(line, json!({ "seq": seq, "fence": fence }))
    }

    /// Says something lasting under the next number, and hears that it is settled.
    pub(crate) async fn settle(&mut self, line: &str, fence: i64) {
        let line = self.next(line, fence);
        done(self.line.say(line).await);
        assert_eq!(self.ack().await, self.seq);
    }

    pub(crate) async fn say(&self, line: String) -> Processed {
        self.line.say(line).await
    }

    pub(crate) async fn hear(&mut self) -> Envelope<WebAppMessage> {
        self.line.hear().await
    }

    pub(crate) async fn welcomed(&mut self) -> Welcome {
        match self.hear().await.message {
            WebAppMessage::Welcome(welcome) => welcome,
            other => panic!("not a welcome: {other:?}"),
        }
    }

    pub(crate) async fn ack(&mut self) -> u64 {
        match self.hear().await.message {
            WebAppMessage::Ack(ack) => ack.seq.get(),
            other => panic!("not an acknowledgement: {other:?}"),
        }
    }

    pub(crate) async fn error(&mut self) -> ErrorReply {
        match self.hear().await.message {
            WebAppMessage::Error(error) => error,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// An error, as its code, its number and whether to try again.
    pub(crate) async fn refused(&mut self) -> (String, Option<u64>, bool) {
        let error = self.error().await;
        (error.code.to_string(), error.seq.map(|seq| seq.get()), error.retryable)
    }

    /// Job, fence, and the assignment.
    pub(crate) async fn assigned(&mut self) -> (i64, JobAssignment) {
        let envelope = self.hear().await;
        let fence = envelope.marks.fence.expect("a lease").get();
        match envelope.message {
            WebAppMessage::JobAssignment(assignment) => (fence, assignment),
            other => panic!("not an assignment: {other:?}"),
        }
    }

    /// The type of the next line, the job and the fence it names.
    pub(crate) async fn told(&mut self) -> (&'static str, String, i64) {
        let envelope = self.hear().await;
        let job = envelope.job_id.map(|job| job.to_string()).unwrap_or_default();
        let fence = envelope.marks.fence.map_or(0, |fence| fence.get());
        (envelope.message.kind().as_str(), job, fence)
    }

    /// The last line, and why the connection ends.
    pub(crate) async fn farewell(&mut self) -> (String, bool, Closing) {
        let told = match self.hear().await.message {
            WebAppMessage::Goodbye(goodbye) => (goodbye.reason.to_string(), goodbye.reconnect),
            other => panic!("not a goodbye: {other:?}"),
        };
        until("the connection to end", || self.line.out.closing.get().is_some()).await;
        (told.0, told.1, *self.line.out.closing.get().unwrap())
    }

    pub(crate) fn heard_nothing(&mut self) -> bool {
        self.line.heard_nothing()
    }

    pub(crate) async fn leave(self) {
        self.line.leave().await;
    }
}
