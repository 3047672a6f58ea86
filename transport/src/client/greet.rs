//! How a connection begins: the hello, and what its answer means for everything in hand.

use crawlwire_protocol::message::{
    CrawlerId, Feature, Hello, InstanceId, RefusedNumber, Role, Software, VERSION, Welcome,
};
use crawlwire_protocol::{
    CrawlerMessage, Decoded, Dialect, Envelope, JobId, List, Name, Version, WebAppMessage, Whole, Words, decode, encode,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::connector::Connector;
use super::error::{Closed, Refusal};
use super::hear::Left;
use super::link::{Link, Turn};
use super::live::Live;
use super::outbox::{Entry, Kind};
use super::state::State;
use super::words;
use crate::Endpoint;

/// The code of a refusal of our own: the server turned out to have no word for it.
pub(super) const UNSUPPORTED: &str = "unsupported";

/// What came of a hello.
#[derive(Debug)]
pub(super) enum Greeting {
    Welcome(Box<Welcome>),
    /// No answer in time.
    Silence,
    /// The connection ended without an answer.
    Ended(String),
    /// Not now.
    Later(ErrorWait),
    /// Not this crawler.
    Refused(Closed),
    /// Not this instance: it is somebody else's.
    InstanceTaken,
    /// The server speaks sessions of other versions only.
    OtherVersion,
}

/// When to try again, and why not now.
#[derive(Debug)]
pub(super) struct ErrorWait {
    pub(super) code: String,
    pub(super) wait: std::time::Duration,
}

/// The hello's line. `None` when a name in it is out of range, which the options have excluded.
pub(super) fn hello(state: &State, instance: Uuid, connector: &dyn Connector, endpoint: &Endpoint) -> Option<Vec<u8>> {
    let options = &state.options;
    let mut features = vec![Feature::Cancel, Feature::Checkpoint];
    if cfg!(feature = "zstd") && options.compression {
        features.push(Feature::Zstd);
    }
    let software = options.software.as_ref();
    let leases = state.leases();
    let message = CrawlerMessage::Hello(Hello {
        versions: List::new(vec![Version::new(VERSION)?])?,
        features: List::cut(features.into_iter().map(|feature| Name::cut(feature.as_str()))),
        role: Name::cut(Role::Crawler.as_str()),
        crawler_id: CrawlerId::new(options.crawler_id.clone())?,
        instance_id: InstanceId::new(instance.to_string())?,
        token: options.token.clone().filter(|_| connector.is_private(endpoint)),
        job_types: (options.job_types.as_ref()).map(|types| List::cut(types.iter().map(|it| Name::cut(it.as_str())))),
        hosts: (options.hosts.as_ref()).map(|hosts| List::cut(hosts.iter().map(Words::cut))),
        slots: Whole::clamped(state.slots().into()),
        labels: (!options.labels.is_empty()).then(|| List::cut(options.labels.iter().map(Name::cut))),
        software: software.map(|(name, version)| Software {
            name: Name::cut(name),
            version: version.as_ref().map(Name::cut),
        }),
        holds: (!leases.is_empty()).then(|| List::cut(leases)),
    });
    encode(&Envelope::now(message)).ok()
}

/// Says hello and waits for the answer. Cancel safe in so far as the link is dropped with it.
pub(super) async fn greet(link: &mut Link, hello: &[u8], until: Instant) -> Greeting {
    link.output().push(hello);
    loop {
        let turn = match tokio::time::timeout_at(until, link.turn()).await {
            Ok(turn) => turn,
            Err(_) => return Greeting::Silence,
        };
        match turn {
            Turn::Heard(line) => {
                if let Some(greeting) = answer(&line) {
                    return greeting;
                }
            }
            Turn::Moved => {}
            Turn::Lost(why) => return Greeting::Ended(why),
        }
    }
}

/// What a line means as the answer to a hello, if it is one.
fn answer(line: &[u8]) -> Option<Greeting> {
    let Ok(Decoded::Known(envelope)) = decode::<WebAppMessage>(line, Dialect::Session) else {
        return None;
    };
    match envelope.message {
        WebAppMessage::Welcome(welcome) => Some(Greeting::Welcome(Box::new(welcome))),
        WebAppMessage::Error(error) => {
            let code = error.code.as_str();
            let wait = error.retry_after_ms.map(|wait| wait.as_duration());
            Some(if error.retryable {
                Greeting::Later(ErrorWait {
                    code: code.to_owned(),
                    wait: wait.unwrap_or_default(),
                })
            } else if code == "unsupported_version" {
                Greeting::OtherVersion
            } else if code == "instance_taken" {
                Greeting::InstanceTaken
            } else {
                Greeting::Refused(Closed::Refused(Refusal::new(code, error.message.as_str())))
            })
        }
        WebAppMessage::Goodbye(goodbye) if goodbye.reconnect => Some(Greeting::Later(ErrorWait {
            code: goodbye.reason.as_str().to_owned(),
            wait: goodbye
                .reconnect_after_ms
                .map(|wait| wait.as_duration())
                .unwrap_or_default(),
        })),
        WebAppMessage::Goodbye(goodbye) => Some(Greeting::Refused(Closed::by_goodbye(goodbye.reason.as_str()))),
        _ => None,
    }
}

impl State {
    /// A session has begun. Jobs that are not ours any more are lost, everything unsettled is sent again.
    pub(super) fn begin_session(
        &mut self,
        welcome: &Welcome,
        said: &[JobId],
        slots: u16,
        now: Instant,
    ) -> Option<Left> {
        let high_water = welcome.high_water_seq.get();
        self.counters.connections += 1;
        self.counters.session_id = Some(welcome.session_id.as_str().to_owned());
        self.dialect = Some(Dialect::Session);
        if !self.is_known {
            self.is_known = true;
            self.next_seq = high_water + 1;
            self.settled = high_water;
        } else if high_water < self.settled || high_water >= self.next_seq {
            return Some(Left::NewInstance("the server remembers other numbers"));
        }
        self.live = Some(Live::session(welcome, slots, &self.options, now));
        let is_kept = |id: &JobId| welcome.leases.iter().any(|lease| lease.job_id == *id);
        let gone: Vec<_> = said.iter().filter(|id| !is_kept(id)).collect();
        match &welcome.refused {
            Some(refused) => self.settle_but(refused, high_water),
            None => self.settle_as_it_seems(&gone, high_water),
        }
        self.settle(high_water, now);
        self.drop_unnumbered();
        for id in gone {
            self.lose(id);
        }
        self.begin_anew();
        None
    }

    /// Settles everything up to a number, but for what was refused: its error was lost with a connection.
    fn settle_but(&mut self, refused: &[RefusedNumber], high_water: u64) {
        while let Some(entry) = self.outbox.settle_up_to(high_water) {
            let mut refused = refused.iter();
            let outcome = match refused.find(|it| Some(it.seq.get()) == entry.seq) {
                Some(it) => Err(Refusal::new(it.code.as_str(), "refused on an earlier connection")),
                None => Ok(()),
            };
            self.settle_one(entry, outcome);
        }
    }

    /// The same with a server that does not tell what it refused. Of a job that was taken from us, and whose end is not
    /// settled, it has to be believed that everything was; of others nothing.
    fn settle_as_it_seems(&mut self, gone: &[&JobId], high_water: u64) {
        let lost = |id: &&&JobId| !self.outbox.ends(id, high_water);
        let lost: Vec<_> = gone.iter().filter(lost).copied().cloned().collect();
        while let Some(entry) = self.outbox.settle_up_to(high_water) {
            let held = self.held.get(&entry.job);
            let is_lost = lost.contains(&entry.job) || held.is_none_or(|held| held.lease != entry.lease);
            let stale = || Refusal::new("stale", "the job was taken back meanwhile");
            self.settle_one(entry, if is_lost { Err(stale()) } else { Ok(()) });
        }
    }

    /// A connection to a server of the base protocol has begun. Jobs in hand are named on it, which gives them back to
    /// us.
    pub(super) fn begin_base(&mut self, now: Instant) {
        self.counters.connections += 1;
        self.counters.session_id = None;
        let was_session = self.dialect == Some(Dialect::Session);
        self.dialect = Some(Dialect::Base);
        self.live = Some(Live::base(&self.options, now));
        if was_session {
            self.translate_outbox();
        }
        // What has not begun is the server's again.
        let untaken = |(_, held): &(&JobId, &super::held::Held)| held.untaken.is_some();
        for id in self
            .held
            .iter()
            .filter(untaken)
            .map(|(id, _)| id.clone())
            .collect::<Vec<_>>()
        {
            self.give_back(&id, "reconnected");
        }
        self.begin_anew();
        let unnamed = |(_, held): &(&JobId, &super::held::Held)| held.is_running() && held.progress.is_none();
        for id in self
            .held
            .iter()
            .filter(unnamed)
            .map(|(id, _)| id.clone())
            .collect::<Vec<_>>()
        {
            if let Some(started) = self.held.get(&id).map(words::started) {
                self.say(&id, Kind::Report, started, None, None);
            }
        }
    }

    /// Nothing was said on the new connection yet.
    fn begin_anew(&mut self) {
        self.outbox.rewind();
        for held in self.held.values_mut() {
            held.progress_is_new = held.progress.is_some();
            held.progress_said = None;
            if let Some(refresh) = &mut held.refresh {
                refresh.asked = None;
            }
        }
    }

    /// Lines for a base server say nothing in a session, and the jobs they speak of are not ours there.
    fn drop_unnumbered(&mut self) {
        let unnumbered = |(_, held): &(&JobId, &super::held::Held)| held.fence.is_none();
        for id in self
            .held
            .iter()
            .filter(unnumbered)
            .map(|(id, _)| id.clone())
            .collect::<Vec<_>>()
        {
            self.lose(&id);
        }
        for entry in self.outbox.drain() {
            if entry.seq.is_some() {
                self.outbox.push(entry);
            } else {
                self.settle_one(
                    entry,
                    Err(Refusal::new("stale", "said on a connection of the base protocol")),
                );
            }
        }
    }

    /// The same lines in the words of the base protocol. What it has no words for is settled without effect.
    fn translate_outbox(&mut self) {
        for mut entry in self.outbox.drain() {
            match base_line(&entry) {
                Some(line) => {
                    entry.line = line.into();
                    entry.seq = None;
                    self.outbox.push(entry);
                }
                None if entry.kind.is_end() => self.settle_one(entry, Ok(())),
                None => self.settle_one(
                    entry,
                    Err(Refusal::new(UNSUPPORTED, "the server knows no such message")),
                ),
            }
        }
    }

    /// Nothing can be said as this instance any more: all that was in hand is lost, and counting begins anew.
    pub(super) fn leave_instance(&mut self, why: &str) {
        self.live = None;
        self.is_known = false;
        self.next_seq = 1;
        self.settled = 0;
        for id in self.held.keys().cloned().collect::<Vec<_>>() {
            self.lose(&id);
        }
        for entry in self.outbox.drain() {
            self.settle_one(entry, Err(Refusal::new("stale", why)));
        }
    }
}

fn base_line(entry: &Entry) -> Option<Vec<u8>> {
    if matches!(entry.kind, Kind::SessionEnd | Kind::SessionReport) {
        return None;
    }
    match decode::<CrawlerMessage>(&entry.line, Dialect::Session) {
        Ok(Decoded::Known(mut envelope)) => {
            envelope.marks = Default::default();
            encode(&envelope).ok()
        }
        _ => None,
    }
}
