//! Barriers before jobs.

use std::time::Duration;

use crawlwire_progress::admit::Gate;
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::Rejection;
use crawlwire_progress::{Arrow, Op, Outcome, State};

use super::{ALL, refused, steps};
use crate::support::{Kit, fail, moved, token};

const HOST: &str = "https://git.example";

fn close(gate: &Gate, until: Option<crawlwire_progress::Timestamp>) -> Op {
    Op::CloseGate {
        gate: gate.clone(),
        until,
        reason: Some("it is said to be \"down\"".to_owned()),
        by: "somebody".to_owned(),
    }
}

fn open(gate: &Gate) -> Op {
    Op::OpenGate {
        gate: gate.clone(),
        by: "somebody".to_owned(),
    }
}

fn credentials() -> Gate {
    Gate::Credentials {
        account_id: "acme".to_owned(),
        host: HOST.to_owned(),
    }
}

pub(crate) async fn a_closed_gate_holds_jobs_back(kit: Kit) {
    let peer = kit.session("one").await;
    let job = kit.submit().await;
    let mut elsewhere = kit.new_job();
    elsewhere.spec.host = "https://other.example".to_owned();
    let elsewhere = kit.submitted(elsewhere).await;
    let barred = Rejection::Job(Refusal::GateClosed);
    let host = Gate::Host(HOST.to_owned());
    let until = kit.clock.now().after(Duration::from_secs(30));
    for gate in [credentials(), host.clone(), Gate::Queue] {
        let closing = close(&gate, (gate == host).then_some(until));
        assert_eq!(kit.commit(closing).await, Outcome::Done);
        assert_eq!(refused(kit.commit(peer.claims(job.key)).await), barred, "{gate:?}");
    }
    assert_eq!(
        refused(kit.commit(peer.claims(elsewhere.key)).await),
        barred,
        "the queue is closed to all"
    );
    let closed = kit.store.gates().await.unwrap();
    let names: Vec<_> = closed.iter().map(|closed| closed.gate.clone()).collect();
    assert_eq!(names, [Gate::Queue, host.clone(), credentials()], "widest first");
    assert_eq!((closed[1].until, closed[0].until), (Some(until), None));
    assert_eq!((closed[0].account, closed[2].account), (None, Some(job.account)));
    assert_eq!(closed[2].reason.as_deref(), Some("it is said to be \"down\""));
    assert!(
        closed
            .iter()
            .all(|gate| gate.closed_at == kit.clock.now() && gate.by == "somebody")
    );

    for gate in [Gate::Queue, credentials()] {
        kit.commit(open(&gate)).await;
    }
    kit.commit(open(&Gate::Queue)).await;
    moved(kit.commit(peer.claims(elsewhere.key)).await);
    assert_eq!(refused(kit.commit(peer.claims(job.key)).await), barred);
    kit.pass(Duration::from_secs(30));
    kit.sweep().await;
    assert!(kit.store.gates().await.unwrap().is_empty(), "its time came");
    moved(kit.commit(peer.claims(job.key)).await);
    let audit = kit.store.audit(ALL).await.unwrap().items;
    let done: Vec<_> = audit.iter().map(|row| row.act.as_str()).collect();
    assert_eq!(
        done,
        ["open_gate", "open_gate", "close_gate", "close_gate", "close_gate"]
    );
    let nobody = Gate::Credentials {
        account_id: "nobody".to_owned(),
        host: HOST.to_owned(),
    };
    assert_eq!(
        refused(kit.commit(close(&nobody, None)).await),
        Rejection::NoSuchAccount
    );
}

pub(crate) async fn behind_a_gate_deadlines_stand_still(kit: Kit) {
    let peer = kit.session("one").await;
    let (job, elsewhere) = (kit.submit().await, {
        let mut new = kit.new_job();
        new.spec.host = "https://other.example".to_owned();
        kit.submitted(new).await
    });
    kit.start(&job, &peer).await;
    kit.start(&elsewhere, &peer).await;
    let deadline = kit.view(&job).await.deadline.unwrap();
    let host = Gate::Host(HOST.to_owned());
    kit.commit(close(&Gate::Queue, None)).await;
    kit.commit(close(&host, None)).await;
    kit.pass(kit.policy.job_timeout);
    kit.commit(Op::Renew(vec![peer.reference()])).await;
    let facts = kit.sweep().await;
    assert_eq!(steps(&facts), [(Arrow::Deadline, State::Delayed)]);
    assert_eq!(facts[0].job, elsewhere.key, "a paused queue stops no deadline");
    // Together: what is closed again stood still all the same.
    kit.together(vec![open(&host), close(&host, None)]).await;
    assert_eq!(
        kit.view(&job).await.deadline,
        Some(deadline.after(kit.policy.job_timeout))
    );
    kit.pass(Duration::from_secs(7));
    kit.commit(open(&host)).await;
    let moved_to = deadline.after(kit.policy.job_timeout + Duration::from_secs(7));
    assert_eq!(kit.view(&job).await.deadline, Some(moved_to));
    kit.pass(kit.policy.job_timeout);
    kit.commit(Op::Renew(vec![peer.reference()])).await;
    let facts = kit.sweep().await;
    assert!(
        facts
            .iter()
            .any(|fact| (fact.job, fact.arrow) == (job.key, Arrow::Deadline)),
        "{facts:?}"
    );
}

pub(crate) async fn behind_bad_credentials_a_failure_is_free_and_a_new_token_opens(kit: Kit) {
    let peer = kit.session("one").await;
    let mut new = kit.new_job();
    new.access_token = token("glpat-old");
    let job = kit.submitted(new).await;
    let holder = kit.start(&job, &peer).await;
    kit.commit(close(&credentials(), None)).await;
    let failed = moved(kit.commit(fail(job.key, &holder, false)).await);
    assert_eq!((failed.arrow, failed.state), (Arrow::Finish, State::Delayed));
    assert_eq!(kit.view(&job).await.failures, 0, "it was not the job's fault");
    kit.pass(kit.policy.retry_delay_max);
    kit.sweep().await;
    assert_eq!(
        refused(kit.commit(peer.claims(job.key)).await),
        Rejection::Job(Refusal::Stale),
        "the lease is over"
    );
    let peer = kit.session("two").await;
    assert_eq!(
        refused(kit.commit(peer.claims(job.key)).await),
        Rejection::Job(Refusal::GateClosed)
    );
    let mut newer = kit.new_job();
    newer.access_token = token("glpat-new");
    kit.submitted(newer).await;
    assert!(kit.store.gates().await.unwrap().is_empty());
    moved(kit.commit(peer.claims(job.key)).await);
    let audit = kit.store.audit(ALL).await.unwrap().items;
    assert_eq!(
        (audit[0].act.as_str(), audit[0].by.as_str()),
        ("open_gate", "a new token")
    );
}
