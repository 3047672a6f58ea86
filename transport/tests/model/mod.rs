//! A server that settles as the real one does, kept in memory: numbers without gaps per instance, each line once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crawlwire_protocol::message::{Ack, ErrorReply, HeldLease, Hello, Ping, Welcome};
use crawlwire_protocol::{CrawlerMessage, Decoded, Dialect, Envelope, List, Seq, WebAppMessage, Whole, decode, encode};
use crawlwire_transport::client::BoxedStream;
use crawlwire_transport::testing::{Conversation, assignment, error, fenced, welcome};

/// How often it is asked whether there is a job to give.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What outlives connections and crashes.
#[derive(Debug, Default)]
pub(crate) struct Model {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The present connection of the instance: what older ones say has no effect.
    epoch: u64,
    high_water: u64,
    /// Every line that had an effect, in order.
    lines: Vec<Vec<u8>>,
    /// Jobs still to give, and jobs given that have not ended.
    jobs: Vec<String>,
    given: BTreeMap<String, i64>,
    /// Every so many lines is refused for now.
    refuses_every: u64,
    looked: u64,
    faults: Vec<String>,
}

impl Model {
    /// Gives these jobs; refuses every so many lines for now, 0 for none.
    pub(crate) fn new(jobs: impl IntoIterator<Item = String>, refuses_every: u64) -> Arc<Self> {
        let model = Self::default();
        {
            let mut kept = model.kept();
            kept.jobs = jobs.into_iter().collect();
            kept.refuses_every = refuses_every;
        }
        Arc::new(model)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The messages that had an effect, in order.
    pub(crate) fn messages(&self) -> Vec<Envelope<CrawlerMessage>> {
        let kept = self.kept();
        assert_eq!(kept.faults, Vec::<String>::new());
        kept.lines
            .iter()
            .map(|line| match decode::<CrawlerMessage>(line, Dialect::Session) {
                Ok(Decoded::Known(envelope)) => envelope,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Serves one connection until it ends.
    pub(crate) async fn serve(self: Arc<Self>, stream: BoxedStream, terms: Welcome) {
        let mut conversation = Conversation::<CrawlerMessage, WebAppMessage>::over("model", stream, Dialect::Session);
        let Some(line) = conversation.next_line().await else {
            return;
        };
        let Ok(Decoded::Known(Envelope {
            message: CrawlerMessage::Hello(hello),
            ..
        })) = decode::<CrawlerMessage>(&line, Dialect::Session)
        else {
            // Taken for a server of the base protocol, which it is not.
            let _ = conversation
                .try_send_line(&line_of(WebAppMessage::Ping(Ping { nonce: None })))
                .await;
            return;
        };
        let (epoch, answers) = self.greet(&hello, terms);
        for answer in answers {
            if conversation.try_send_line(&answer).await.is_err() {
                return;
            }
        }
        loop {
            let answer = match tokio::time::timeout(LOOK_EVERY, conversation.next_line()).await {
                Err(_) => self.next_job(epoch),
                Ok(None) => return,
                Ok(Some(line)) => self.heard(epoch, &line),
            };
            let Some(answer) = answer else { continue };
            if conversation.try_send_line(&answer).await.is_err() {
                return;
            }
        }
    }

    fn greet(&self, hello: &Hello, mut terms: Welcome) -> (u64, Vec<Vec<u8>>) {
        let mut kept = self.kept();
        kept.epoch += 1;
        let holds = hello.holds.clone().unwrap_or_default();
        let is_given = |lease: &HeldLease| kept.given.get(lease.job_id.as_str()) == Some(&lease.fence.get());
        let leases: Vec<_> = holds.into_iter().filter(|lease| is_given(lease)).collect();
        let named = |job: &String| leases.iter().any(|lease| lease.job_id.as_str() == job);
        // An assignment that was lost on its way is sent again.
        let again: Vec<_> = kept
            .given
            .iter()
            .filter(|(job, _)| !named(job))
            .map(|(job, fence)| (job.clone(), *fence))
            .collect();
        terms.high_water_seq = Whole::clamped(kept.high_water);
        terms.leases = List::cut(leases);
        let mut answers = vec![line_of(WebAppMessage::Welcome(terms))];
        answers.extend(again.into_iter().map(|(job, fence)| assignment_line(&job, fence)));
        (kept.epoch, answers)
    }

    fn next_job(&self, epoch: u64) -> Option<Vec<u8>> {
        let mut kept = self.kept();
        if kept.epoch != epoch || kept.given.len() >= 3 {
            return None;
        }
        let job = kept.jobs.pop()?;
        kept.given.insert(job.clone(), 1);
        Some(assignment_line(&job, 1))
    }

    /// What a line is answered with.
    fn heard(&self, epoch: u64, line: &[u8]) -> Option<Vec<u8>> {
        let mut kept = self.kept();
        let envelope = match decode::<CrawlerMessage>(line, Dialect::Session) {
            Ok(Decoded::Known(envelope)) => envelope,
            other => {
                kept.faults.push(format!("{other:?}"));
                return None;
            }
        };
        let seq = envelope.marks.seq?.get();
        if kept.epoch != epoch {
            return None;
        }
        kept.looked += 1;
        if seq <= kept.high_water {
            if kept.lines[seq as usize - 1] != line {
                kept.faults.push(format!("{seq} came again with other bytes"));
            }
        } else if seq > kept.high_water + 1 {
            return Some(later(seq, "sequence_gap", Duration::ZERO));
        } else if kept.looked.is_multiple_of(kept.refuses_every) {
            return Some(later(seq, "database_unavailable", Duration::from_millis(3)));
        } else {
            kept.high_water = seq;
            kept.lines.push(line.to_vec());
            let is_end = matches!(
                envelope.message,
                CrawlerMessage::JobCompleted(_) | CrawlerMessage::JobFailed(_) | CrawlerMessage::JobReturned(_)
            );
            if is_end && let Some(job) = envelope.job_id {
                kept.given.remove(job.as_str());
            }
        }
        let seq = Seq::new(kept.high_water)?;
        Some(line_of(WebAppMessage::Ack(Ack { seq })))
    }
}

/// Terms with short intervals: who is silent is noticed soon.
pub(crate) fn brisk() -> Welcome {
    let mut terms = welcome(0);
    terms.heartbeat_interval_ms = Duration::from_millis(100).into();
    terms.heartbeat_timeout_ms = Duration::from_millis(400).into();
    terms.report_policy.progress_interval_ms = Duration::from_millis(20).into();
    terms.max_in_flight = 8.into();
    terms
}

fn later(seq: u64, code: &str, wait: Duration) -> Vec<u8> {
    line_of(WebAppMessage::Error(ErrorReply {
        retryable: true,
        retry_after_ms: Some(wait.into()),
        ..error(Some(seq), code)
    }))
}

fn line_of(message: WebAppMessage) -> Vec<u8> {
    encode(&Envelope::now(message)).unwrap()
}

fn assignment_line(job: &str, fence: i64) -> Vec<u8> {
    let id = crawlwire_protocol::JobId::new(job).unwrap();
    let mut envelope = Envelope::for_job(id, WebAppMessage::JobAssignment(assignment(job)));
    envelope.marks = fenced(fence);
    encode(&envelope).unwrap()
}

/// A crawler that says a few things of each job and completes it. Returns when `jobs` have ended well.
pub(crate) async fn crawl(mut jobs: crawlwire_transport::client::Jobs, wanted: usize, checkpoints: u32) {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..wanted {
        let job = jobs.next().await.expect("another job");
        running.spawn(async move {
            for page in 0..checkpoints {
                job.progress(f64::from(page) / f64::from(checkpoints));
                job.checkpoint(&BTreeMap::from([("page", page)])).await.expect("kept");
            }
            job.complete("done").await.expect("settled");
        });
    }
    while let Some(done) = running.join_next().await {
        done.expect("no panic");
    }
}

/// Every job started, kept its checkpoints in order and completed, each exactly once.
pub(crate) fn check(messages: &[Envelope<CrawlerMessage>], jobs: usize, checkpoints: u32) {
    let mut by_job: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (at, envelope) in messages.iter().enumerate() {
        assert_eq!(envelope.marks.seq.map(Seq::get), Some(at as u64 + 1));
        let said = match &envelope.message {
            CrawlerMessage::JobStarted(_) => "started".to_owned(),
            CrawlerMessage::Checkpoint(checkpoint) => checkpoint.cursor.as_str().to_owned(),
            CrawlerMessage::JobCompleted(_) => "completed".to_owned(),
            other => panic!("{other:?}"),
        };
        let job = envelope.job_id.as_ref().unwrap().as_str().to_owned();
        by_job.entry(job).or_default().push(said);
    }
    assert_eq!(by_job.len(), jobs);
    let pages = (0..checkpoints).map(|page| format!(r#"{{"page":{page}}}"#));
    let mut expected = vec!["started".to_owned()];
    expected.extend(pages);
    expected.push("completed".to_owned());
    for (job, said) in by_job {
        assert_eq!(said, expected, "{job}");
    }
}
