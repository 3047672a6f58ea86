//! One end of a connection, line by line, for tests: what is sent is what the test says, what is heard is what it
//! expects, and all of it is remembered.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crawlwire_protocol::{Decoded, Dialect, Envelope, JobId, Marks, Message, WireTime, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::client::BoxedStream;
use crate::codec::{Line, LineCodec};

/// How long a test waits for something that should come at once. Long, because a loaded machine is no defect.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Lines shown when an expectation fails.
const SHOWN: usize = 12;

/// Lines kept of a conversation; the oldest are forgotten.
const RECORD_MAX: usize = 100_000;

/// A line that was heard, and what it says.
#[derive(Clone)]
pub struct Heard<M> {
    /// The line as it came, without its newline.
    pub line: Bytes,
    /// What it says.
    pub envelope: Envelope<M>,
}

impl<M> Heard<M> {
    /// The message.
    pub fn message(&self) -> &M {
        &self.envelope.message
    }

    /// The marks of the session dialect.
    pub fn marks(&self) -> Marks {
        self.envelope.marks
    }

    /// The number of a lasting message.
    ///
    /// # Panics
    /// When it has none.
    pub fn seq(&self) -> u64 {
        match self.envelope.marks.seq {
            Some(seq) => seq.get(),
            None => panic!("no seq in {}", text(&self.line)),
        }
    }

    /// The job it speaks of, or an empty text.
    pub fn job(&self) -> &str {
        self.envelope.job_id.as_ref().map(JobId::as_str).unwrap_or_default()
    }
}

impl<M> fmt::Debug for Heard<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(&self.line))
    }
}

/// A line of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// Sent by this end.
    Sent(Bytes),
    /// Heard by this end.
    Heard(Bytes),
}

/// One end of a connection: hears messages `In` and says messages `Out`. Its panics show the last lines of the record,
/// tokens in them included, so use it with test tokens only.
pub struct Conversation<In, Out> {
    name: &'static str,
    stream: BoxedStream,
    codec: LineCodec,
    input: BytesMut,
    ended: bool,
    dialect: Dialect,
    record: VecDeque<Recorded>,
    /// Types that [`Conversation::expect`] passes over when they are not what it waits for.
    ignored: Vec<&'static str>,
    messages: PhantomData<fn(In) -> Out>,
}

impl<In: Message, Out: Message> Conversation<In, Out> {
    /// A conversation over a stream. `name` stands for this end in panics.
    pub fn over(name: &'static str, stream: BoxedStream, dialect: Dialect) -> Self {
        Self {
            name,
            stream,
            codec: LineCodec::new(16 * 1024 * 1024),
            input: BytesMut::new(),
            ended: false,
            dialect,
            record: VecDeque::new(),
            ignored: vec!["heartbeat", "ping", "pong"],
            messages: PhantomData,
        }
    }

    /// From now on lines are read in this dialect. The default follows from how the conversation began.
    pub fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// The dialect in which lines are read.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Types that expectations pass over. By default `heartbeat`, `ping` and `pong`, which come when they want.
    pub fn ignore(&mut self, types: &[&'static str]) {
        self.ignored = types.to_vec();
    }

    /// Everything said and heard so far, in order.
    pub fn record(&self) -> impl Iterator<Item = &Recorded> {
        self.record.iter()
    }

    /// The lines heard so far.
    pub fn heard(&self) -> impl Iterator<Item = &Bytes> {
        self.record.iter().filter_map(|recorded| match recorded {
            Recorded::Heard(line) => Some(line),
            Recorded::Sent(_) => None,
        })
    }

    // ---- saying ----------------------------------------------------------------------------------------------------

    /// Sends a line as it is; a newline is added.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn send_line(&mut self, line: impl AsRef<[u8]>) {
        if let Err(error) = self.try_send_line(line.as_ref()).await {
            self.fail(&format!("could not send: {error}"));
        }
    }

    /// The same, for connections that may be gone.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn try_send_line(&mut self, line: &[u8]) -> io::Result<()> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        self.note(Recorded::Sent(Bytes::copy_from_slice(line)));
        self.stream.write_all(line).await?;
        self.stream.write_all(b"\n").await?;
        self.stream.flush().await
    }

    /// Sends bytes that need not be a line.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes).await {
            self.fail(&format!("could not send: {error}"));
        }
        // A stream that is gone will be noticed by what comes next.
        let _ = self.stream.flush().await;
    }

    /// Sends a message about no job.
    ///
    /// # Panics
    /// As [`Conversation::send_line`].
    pub async fn send(&mut self, message: Out) {
        self.send_envelope(&Envelope::now(message)).await;
    }

    /// Sends a message about a job, with these marks.
    ///
    /// # Panics
    /// As [`Conversation::send_line`], and when the job has no name.
    pub async fn send_for(&mut self, job: &str, marks: Marks, message: Out) {
        let job = JobId::new(job).unwrap_or_else(|| self.fail("a job needs a name"));
        self.send_envelope(&Envelope {
            timestamp: WireTime::now(),
            job_id: Some(job),
            marks,
            message,
        })
        .await;
    }

    /// Sends an envelope.
    ///
    /// # Panics
    /// As [`Conversation::send_line`].
    pub async fn send_envelope(&mut self, envelope: &Envelope<Out>) {
        match encode(envelope) {
            Ok(line) => self.send_line(line).await,
            Err(error) => self.fail(&format!("could not encode: {error}")),
        }
    }

    /// Ends the sending half in good order.
    pub async fn finish(&mut self) {
        // It may be gone already.
        let _ = self.stream.shutdown().await;
    }

    // ---- hearing ---------------------------------------------------------------------------------------------------

    /// The next line, `None` at the end of the stream. Cancel safe.
    pub async fn next_line(&mut self) -> Option<Bytes> {
        loop {
            match self.codec.next_line(&mut self.input) {
                Some(Line::Complete(line)) => {
                    self.note(Recorded::Heard(line.clone()));
                    return Some(line);
                }
                Some(_) => continue,
                None if self.ended => return None,
                None => {}
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => self.ended = true,
                Ok(_) => {}
            }
        }
    }

    /// The next message, `None` at the end of the stream.
    ///
    /// # Panics
    /// When a line is no message.
    pub async fn next(&mut self) -> Option<Heard<In>> {
        let line = self.next_line().await?;
        match decode::<In>(&line, self.dialect) {
            Ok(Decoded::Known(envelope)) => Some(Heard { line, envelope }),
            Ok(Decoded::Custom(custom)) => self.fail(&format!("heard an unknown type {:?}", custom.type_name)),
            Err(error) => self.fail(&format!("heard a line that is no message: {error}")),
        }
    }

    /// The next message, which must be of this type. Types that are ignored are passed over.
    ///
    /// # Panics
    /// When another message comes, none within [`PATIENCE`], or the stream ends.
    pub async fn expect(&mut self, type_name: &str) -> Heard<In> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let heard = match tokio::time::timeout_at(deadline, self.next()).await {
                Ok(Some(heard)) => heard,
                Ok(None) => self.fail(&format!("expected {type_name}, and the connection ended")),
                Err(_) => self.fail(&format!("expected {type_name}, and nothing came")),
            };
            let name = In::name_of(heard.message().kind());
            if name == type_name {
                return heard;
            }
            if !self.ignored.contains(&name) {
                self.fail(&format!("expected {type_name}, heard {name}"));
            }
        }
    }

    /// Passes over everything until a message of this type comes.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`], or the stream ends.
    pub async fn skip_to(&mut self, type_name: &str) -> Heard<In> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.next()).await {
                Ok(Some(heard)) if In::name_of(heard.message().kind()) == type_name => return heard,
                Ok(Some(_)) => {}
                Ok(None) => self.fail(&format!("waited for {type_name}, and the connection ended")),
                Err(_) => self.fail(&format!("waited for {type_name}, which did not come")),
            }
        }
    }

    /// Nothing may come for this long, but for types that are ignored.
    ///
    /// # Panics
    /// When something comes.
    pub async fn expect_silence(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(next) = tokio::time::timeout_at(deadline, self.next()).await {
            match next {
                Some(heard) if self.ignored.contains(&In::name_of(heard.message().kind())) => {}
                Some(heard) => self.fail(&format!("expected silence, heard {heard:?}")),
                None => self.fail("expected silence, and the connection ended"),
            }
        }
    }

    /// The peer must end the connection. What it says before is passed over, and remembered.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub async fn expect_end(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, async { while self.next_line().await.is_some() {} }).await;
        if ended.is_err() {
            self.fail("expected the end of the connection");
        }
    }

    fn note(&mut self, recorded: Recorded) {
        if self.record.len() == RECORD_MAX {
            self.record.pop_front();
        }
        self.record.push_back(recorded);
    }

    /// Fails the test, showing how it came to this.
    fn fail(&self, problem: &str) -> ! {
        let skipped = self.record.len().saturating_sub(SHOWN);
        let mut shown = String::new();
        for recorded in self.record.iter().skip(skipped) {
            let (arrow, line) = match recorded {
                Recorded::Sent(line) => ("said ", line),
                Recorded::Heard(line) => ("heard", line),
            };
            shown.push_str(&format!("\n  {arrow} {}", text(line)));
        }
        panic!("{}: {problem}; the last lines were{shown}", self.name);
    }
}

impl<In, Out> fmt::Debug for Conversation<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("name", &self.name)
            .field("dialect", &self.dialect)
            .field("lines", &self.record.len())
            .finish_non_exhaustive()
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().take(2000).collect()
}
