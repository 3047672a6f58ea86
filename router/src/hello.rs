//! The greeting of the session dialect: who is there, on what terms, and what it still holds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::store::{NewInstance, NewSession, Opened, Outcome, OwnLease, Rejection, Ticket, UNTOLD_MAX};
use crawlwire_progress::{Committed, Op, State};
use crawlwire_protocol::message::{
    Feature, HeldLease, Hello, HighWater, JobType, RefusedNumber, ReportPolicy, Role, ServerInfo, VERSION, Welcome,
};
use crawlwire_protocol::{
    Category, Count, Envelope, FenceNo, JobId, List, Millis, Name, Seq, Severity, Version, WebAppMessage, WireTime,
};

use crate::auth::{self, Denied, Principal};
use crate::code;
use crate::dispatch::assignment::{self, Again};
use crate::event::Event;
use crate::handler::Processed;
use crate::outgoing::{part, send};
use crate::peer::{Closing, Peer};
use crate::said::{replaced, unavailable};
use crate::session::{Greeting, Held, Session};
use crate::shared::Shared;
use crate::wishes;

/// Digits of the instance's id that a session's name ends with: the last ones, which are chance in every kind of UUID.
const NAME_DIGITS: usize = 8;

/// Answers a `hello`: lets the peer in, or says why not and ends the connection. The welcome and what follows it are sent
/// when this returns.
pub(crate) async fn greet(shared: &Arc<Shared>, peer: &Arc<Peer>, hello: &Hello) -> Processed {
    if peer.session().is_some() {
        let kind = (Category::MessageValidation, Severity::Low);
        return Processed::refused(code::HELLO_EXPECTED_ONCE, kind, "the session has begun already");
    }
    match open(shared, peer, hello).await {
        Ok(()) => Processed::done(),
        Err(refused) => {
            let why = refused.error.as_deref();
            tracing::info!(peer = peer.name(), why, "hello refused");
            let closing = match refused.should_retry {
                true => Closing::Unavailable,
                false => Closing::HelloRefused,
            };
            Processed {
                close: refused.close.or(Some(closing)),
                ..*refused
            }
        }
    }
}

fn refused(code: &'static str, category: Category, message: impl Into<String>) -> Box<Processed> {
    Box::new(Processed::refused(code, (category, Severity::Medium), message))
}

async fn open(shared: &Arc<Shared>, peer: &Arc<Peer>, hello: &Hello) -> Result<(), Box<Processed>> {
    shared.recovered.wait().await;
    let greeting = judge(shared, peer, hello).await?;
    let capabilities = Arc::new(capabilities(hello, greeting.role));
    let confirms = greeting.features.contains(&Feature::Cancel);
    let new = NewSession {
        name: name(hello),
        identity: peer.identity.clone(),
        server: shared.config.server.clone(),
        capabilities: (*capabilities).clone(),
        confirms,
        instance: Some(NewInstance {
            id: greeting.instance_id.clone(),
            crawler_id: greeting.crawler_id.clone(),
            principal: greeting.principal.clone(),
        }),
    };
    let _one = peer.opening.lock().await;
    if peer.is_closed() {
        return Err(Box::new(Processed::failed("the connection is gone")));
    }
    let opened = match in_order(shared, peer, new).await {
        None => return Err(Box::new(replaced())),
        Some(ticket) => ticket.await.map(Committed::into_inner),
    };
    let opened = match opened {
        Ok(Outcome::SessionOpened(opened)) => opened,
        Ok(Outcome::Refused(rejection @ Rejection::InstanceTaken)) => {
            let why = rejection.to_string();
            return Err(refused(code::INSTANCE_TAKEN, Category::Authentication, why));
        }
        Ok(_) => return Err(refused(code::INTERNAL_ERROR, Category::Internal, "no session was made")),
        Err(error) => return Err(Box::new(unavailable(&error))),
    };
    let again = match assignment::again(shared, &opened, hello, &greeting).await {
        Ok(again) => again,
        Err(error) => {
            // Nobody speaks for the session now. Whether that is written does not matter: its lease runs out by itself.
            drop(shared.store.enqueue(Op::Disconnect(opened.session)).await);
            return Err(Box::new(unavailable(&error)));
        }
    };
    let session = Session::new(
        opened.session,
        opened.name.clone(),
        peer.clone(),
        (capabilities, confirms),
        Some(greeting),
    );
    enter(shared, &session, hello, opened, again).await;
    Ok(())
}

/// Gives the session to the store, unless a younger connection of the instance came first.
async fn in_order(shared: &Shared, peer: &Peer, new: NewSession) -> Option<Ticket> {
    let instance = new.instance.as_ref()?.id.clone();
    let _turn = shared.greeting.lock().await;
    let instance = peer.instance.get_or_init(|| instance);
    if !shared.greeters.admit(instance, peer.connection) {
        return None;
    }
    Some(shared.store.enqueue(Op::OpenSession(new)).await)
}

/// What the peer may do, and as whom.
async fn judge(shared: &Shared, peer: &Peer, hello: &Hello) -> Result<Greeting, Box<Processed>> {
    if !hello.versions.iter().any(|version| version.get() == VERSION) {
        let why = format!("this server speaks version {VERSION}");
        return Err(refused(code::UNSUPPORTED_VERSION, Category::MessageValidation, why));
    }
    let Some(role) = Role::named(hello.role.as_str()) else {
        return Err(refused(code::FORBIDDEN_ROLE, Category::Authentication, "no such role"));
    };
    let principal = auth::authenticate(shared, peer.origin, hello.token.as_ref(), role).await;
    let Principal { name, token } = principal.map_err(|denied| denial(&denied))?;
    let software = hello.software.as_ref().map(|software| match &software.version {
        Some(version) => format!("{} {version}", software.name),
        None => software.name.to_string(),
    });
    let offered = &shared.config.hello.features;
    let asked = hello.features.iter().filter_map(|name| Feature::named(name.as_str()));
    Ok(Greeting {
        role,
        features: asked.filter(|feature| offered.contains(feature)).collect(),
        principal: name,
        token,
        instance_id: hello.instance_id.to_string(),
        crawler_id: hello.crawler_id.to_string(),
        software,
    })
}

fn denial(denied: &Denied) -> Box<Processed> {
    if let Denied::Store(error) = denied {
        return Box::new(unavailable(error));
    }
    let mut refused = refused(denied.code(), Category::Authentication, denied.to_string());
    refused.close = Some(Closing::NotAuthenticated);
    refused
}

/// What a crawler says that it can do. Of the job types it names, those that nobody knows do not count.
fn capabilities(hello: &Hello, role: Role) -> Capabilities {
    let texts = |names: &[Name]| names.iter().map(Name::to_string).collect::<BTreeSet<_>>();
    Capabilities {
        job_types: hello
            .job_types
            .as_ref()
            .map(|names| names.iter().filter_map(|name| JobType::named(name.as_str())).collect()),
        hosts: hello
            .hosts
            .as_ref()
            .map(|hosts| hosts.iter().map(|host| host_of(host.as_str())).collect()),
        labels: hello.labels.as_deref().map(texts).unwrap_or_default(),
        slots: if role == Role::Monitor {
            0
        } else {
            slots(hello.slots.get())
        },
    }
}

/// A host in the one form that jobs have it in; as it is, if it has none.
fn host_of(text: &str) -> String {
    crawlwire_protocol::normalise_host(text).unwrap_or_else(|_| text.to_owned())
}

pub(crate) fn slots(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What the session is called, in logs and lists: who it is, and enough of the instance to tell its runs apart.
fn name(hello: &Hello) -> Arc<str> {
    let digits: String = hello.instance_id.as_str().replace('-', "");
    let end = &digits[digits.len().saturating_sub(NAME_DIGITS)..];
    let crawler = hello.crawler_id.as_str().replace(char::is_control, "\u{fffd}");
    format!("{crawler}-{end}").into()
}

/// Makes the connection the session's own, and tells the peer all it has to know.
async fn enter(shared: &Arc<Shared>, session: &Arc<Session>, hello: &Hello, opened: Opened, again: Vec<Again>) {
    let peer = &session.peer;
    let high_water = u64::try_from(opened.high_water).unwrap_or(0);
    peer.numbers.begin(high_water, opened.fingerprint);
    for lease in &opened.leases {
        session.hold(lease.public_id.clone(), held(lease));
    }
    for again in &again {
        let credential = again.credential;
        session.update(&again.public_id, again.fence, |held| held.credential = credential);
    }
    peer.enter(session.clone());
    tracing::info!(session = %session.name, epoch = session.epoch.0, "session opened");
    let welcome = welcome(shared, session, hello, &opened);
    if let Err(error) = send(shared, peer, Envelope::now(WebAppMessage::Welcome(welcome))).await {
        tracing::info!(session = %session.name, %error, "welcome not sent");
    }
    // Not before the welcome: from here on it may be given jobs.
    match shared.sessions.add(session.clone()) {
        Ok(None) => {}
        Ok(Some(earlier)) => {
            earlier.leave();
            earlier.let_go_of_all();
            part(shared, &earlier.peer, Closing::Replaced).await;
        }
        Err(()) => {
            session.leave();
            part(shared, peer, Closing::Replaced).await;
            return;
        }
    }
    shared.publish(Event::SessionOpened {
        name: session.name.clone(),
    });
    for again in again {
        assignment::send_again(shared, session, again).await;
    }
    for lease in &opened.leases {
        if lease.want.is_some()
            && let Some(held) = session.held(&lease.public_id)
        {
            wishes::repair(shared, session, &lease.public_id, &held, lease.want).await;
        }
    }
    shared.wake.notify_one();
}

fn held(lease: &OwnLease) -> Held {
    Held {
        started: lease.state == State::Running,
        ..Held::new(lease.key, lease.fence, lease.attempt)
    }
}

/// Whether the peer knows that it holds this lease.
pub(crate) fn knows(hello: &Hello, lease: &OwnLease) -> bool {
    let holds = hello.holds.as_deref().unwrap_or_default();
    let same = |held: &HeldLease| held.job_id.as_str() == lease.public_id && held.fence.get() == lease.fence.0;
    holds.iter().any(same)
}

fn welcome(shared: &Shared, session: &Session, hello: &Hello, opened: &Opened) -> Welcome {
    let config = &shared.config;
    let terms = &config.hello;
    let count = |number: u64| Count::try_from(number).unwrap_or_default();
    let features = session.greeting.iter().flat_map(|greeting| &greeting.features);
    let interval = shared.report_interval_ms.load(Ordering::Relaxed);
    session.told_report_interval(interval);
    let own = opened.leases.iter().filter(|lease| knows(hello, lease));
    let own = own.filter_map(|lease| {
        Some(HeldLease {
            job_id: JobId::new(lease.public_id.clone())?,
            fence: FenceNo::new(lease.fence.0)?,
        })
    });
    Welcome {
        version: Version::clamped(VERSION),
        features: List::cut(features.map(|feature| Name::cut(feature.as_str()))),
        session_id: Name::cut(&*session.name),
        server: ServerInfo {
            name: Name::cut(config.server.clone()),
            version: Name::cut(env!("CARGO_PKG_VERSION")),
        },
        heartbeat_interval_ms: Millis::from(terms.heartbeat_interval),
        heartbeat_timeout_ms: Millis::from(terms.heartbeat_timeout),
        lease_ms: Millis::from(config.policy.lease),
        max_message_size_bytes: count(terms.max_message_bytes),
        // Of more of them nobody could say afterwards which were refused.
        max_in_flight: count(terms.max_in_flight.min(UNTOLD_MAX.into())),
        max_in_flight_bytes: count(terms.max_in_flight_bytes),
        report_policy: ReportPolicy {
            progress_interval_ms: Millis::from(std::time::Duration::from_millis(interval)),
        },
        server_time: WireTime::now(),
        high_water_seq: HighWater::clamped(u64::try_from(opened.high_water).unwrap_or(0)),
        leases: List::cut(own),
        refused: Some(List::cut(opened.refused.iter().filter_map(refused_number))),
    }
}

fn refused_number((seq, code): (i64, &str)) -> Option<RefusedNumber> {
    Some(RefusedNumber {
        seq: Seq::new(u64::try_from(seq).ok()?)?,
        code: Name::cut(code),
    })
}
