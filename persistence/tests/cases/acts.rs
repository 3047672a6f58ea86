//! What people do to jobs, and what crawlers make of it.

use std::time::Duration;

use crawlwire_progress::job::JobLimits;
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Act, Rejection};
use crawlwire_progress::{Arrow, Op, Outcome, PauseReason, State, Want};

use super::{ALL, refused, steps};
use crate::support::{Kit, acts, complete, fail, moved};

pub(crate) async fn acts_do_what_they_say(kit: Kit) {
    let job = kit.submit().await;
    let other = kit.submit().await;
    for (act, arrow, state) in [
        (Act::Pause, Arrow::Pause, State::Paused),
        (Act::Resume, Arrow::Resume, State::Queued),
        (Act::SetPriority(9.5), Arrow::SetPriority, State::Queued),
        (Act::Cancel, Arrow::Cancel, State::Cancelled),
        (Act::Retry, Arrow::Retry, State::Queued),
    ] {
        kit.pass(Duration::from_secs(1));
        assert_eq!(steps(&kit.act(&job, act).await), [(arrow, state)]);
        assert_eq!(kit.view(&job).await.updated_at, kit.clock.now(), "{act:?}");
    }
    assert_eq!(kit.view(&job).await.spec.priority.to_bits(), 9.5_f64.to_bits());
    let ready: Vec<_> = kit
        .ready(9)
        .await
        .iter()
        .map(|job| (job.key, job.spec.priority))
        .collect();
    assert_eq!(ready, [(job.key, 9.5), (other.key, 1.0)], "it runs first now");
    for (act, refusal) in [
        (Act::Resume, Refusal::NotPaused),
        (Act::Retry, Refusal::NotRetryable),
        (Act::Redrive, Refusal::NotRedrivable),
        (Act::SetPriority(9.5), Refusal::AlreadySo),
    ] {
        assert_eq!(refused(kit.commit(acts(job.key, act)).await), Rejection::Job(refusal));
    }
    let peer = kit.session("one").await;
    let holder = kit.start(&job, &peer).await;
    moved(kit.commit(fail(job.key, &holder, false)).await);
    assert_eq!(
        steps(&kit.act(&job, Act::Redrive).await),
        [(Arrow::Redrive, State::Queued)]
    );
    let view = kit.view(&job).await;
    assert_eq!((view.failures, view.resume, view.finished_at), (0, true, None));

    let audit = kit.store.audit(ALL).await.unwrap().items;
    let done: Vec<_> = audit
        .iter()
        .map(|row| (row.act.as_str(), row.target.as_str()))
        .collect();
    let id = job.public_id.as_str();
    assert_eq!(
        done,
        [
            ("redrive", id),
            ("retry", id),
            ("cancel", id),
            ("set_priority", id),
            ("resume", id),
            ("pause", id)
        ],
        "newest first, and refusals leave no mark"
    );
    assert!(
        audit
            .iter()
            .all(|row| row.by == "somebody" && row.at <= kit.clock.now())
    );
    assert_eq!(audit[3].detail.as_deref(), Some(r#"{"priority":9.5}"#));
    let second = crawlwire_progress::store::Paging {
        limit: 2,
        after: Some(audit[1].id),
    };
    let second = kit.store.audit(second).await.unwrap();
    assert_eq!(
        (second.items.as_slice(), second.next),
        (&audit[2..4], Some(audit[3].id))
    );
}

pub(crate) async fn a_wish_waits_for_its_crawler_and_is_forced_at_last(kit: Kit) {
    let peer = kit.session_that_confirms("asked").await;
    let job = kit.submit().await;
    let holder = kit.start(&job, &peer).await;
    assert_eq!(
        steps(&kit.act(&job, Act::Pause).await),
        [(Arrow::WantPause, State::Running)]
    );
    let until = kit.clock.now().after(kit.policy.want_timeout);
    assert_eq!(kit.view(&job).await.want, Some((Want::Pause, until)));
    let held = kit.store.held(vec![peer.key]).await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].key, held[0].fence, held[0].want),
        (job.key, holder.fence, Some(Want::Pause))
    );
    let confirm = |holder| Op::Confirm { job: job.key, holder };
    let confirmed = moved(kit.commit(confirm(holder.clone())).await);
    assert_eq!((confirmed.state, confirmed.fence), (State::Paused, holder.fence));
    let view = kit.view(&job).await;
    assert_eq!(
        (view.pause_reason, view.session, view.want),
        (Some(PauseReason::Operator), None, None)
    );
    assert!(kit.store.held(vec![peer.key]).await.unwrap().is_empty());

    kit.act(&job, Act::Resume).await;
    let holder = kit.start(&job, &peer).await;
    assert_eq!(
        steps(&kit.act(&job, Act::Cancel).await),
        [(Arrow::WantCancel, State::Running)]
    );
    kit.pass(kit.policy.want_timeout - Duration::from_millis(1));
    kit.commit(Op::Renew(vec![peer.reference()])).await;
    assert!(kit.sweep().await.is_empty());
    kit.pass(Duration::from_millis(1));
    assert_eq!(steps(&kit.sweep().await), [(Arrow::Force, State::Cancelled)]);
    assert_eq!(kit.view(&job).await.fence, holder.fence.next());
    for late in [complete(job.key, &holder), confirm(holder)] {
        assert_eq!(refused(kit.commit(late).await), Rejection::Job(Refusal::Stale));
    }

    // A return gives wishes time, as it gives deadlines time.
    let job = kit.submit().await;
    kit.start(&job, &peer).await;
    kit.act(&job, Act::Cancel).await;
    kit.pass(kit.policy.want_timeout);
    let recover = Op::Recover {
        server: "crawlwire".to_owned(),
        connected: true,
    };
    kit.commit(recover).await;
    assert!(kit.sweep().await.is_empty());
    let until = kit.clock.now().after(kit.policy.lease);
    assert_eq!(kit.view(&job).await.want, Some((Want::Cancel, until)));
}

pub(crate) async fn a_crawler_that_cannot_be_asked_loses_the_job_at_once(kit: Kit) {
    let peer = kit.session("base").await;
    let (cancelled, paused) = (kit.submit().await, kit.submit().await);
    let holder = kit.start(&cancelled, &peer).await;
    kit.claim(&paused, &peer).await;
    let sessions = kit.store.sessions(9).await.unwrap();
    assert_eq!((sessions[0].held, sessions[0].capabilities.slots), (2, 3));
    assert_eq!(
        steps(&kit.act(&cancelled, Act::Cancel).await),
        [(Arrow::WantCancel, State::Running), (Arrow::Force, State::Cancelled)]
    );
    let facts = kit.act(&paused, Act::Pause).await;
    assert_eq!(facts.last().map(|fact| fact.state), Some(State::Paused));
    assert_eq!(
        refused(kit.commit(complete(cancelled.key, &holder)).await),
        Rejection::Job(Refusal::Stale)
    );
    assert_eq!(
        refused(kit.commit(acts(cancelled.key, Act::Pause)).await),
        Rejection::Job(Refusal::Ended)
    );
    assert_eq!(
        kit.arrows(&cancelled).await.last().map(String::as_str),
        Some("want_cancel,force")
    );
    assert_eq!(kit.store.sessions(9).await.unwrap()[0].held, 0);
}

pub(crate) async fn a_job_brings_its_own_numbers(kit: Kit) {
    let mut new = kit.new_job();
    let run_at = kit.clock.now().after(Duration::from_secs(60));
    new.run_at = Some(run_at);
    new.spec.labels = vec!["gpu".to_owned(), "ü \"quoted\"".to_owned()];
    new.limits = JobLimits {
        timeout: Some(Duration::from_millis(7001)),
        retry_attempts: Some(0),
        retry_delay: Some(Duration::from_secs(90)),
    };
    let (labels, limits) = (new.spec.labels.clone(), new.limits);
    let job = kit.submitted(new).await;
    let kept = kit.view(&job).await;
    assert_eq!(kept, job);
    assert_eq!((kept.state, kept.run_at), (State::Delayed, Some(run_at)));
    assert_eq!((&kept.spec.labels, kept.limits), (&labels, limits));

    kit.act(&job, Act::Pause).await;
    assert_eq!(
        kit.view(&job).await.run_at,
        Some(run_at),
        "a pause does not bring it forward"
    );
    kit.act(&job, Act::Resume).await;
    assert_eq!(kit.view(&job).await.state, State::Delayed);
    assert!(kit.sweep().await.is_empty());
    kit.pass(Duration::from_secs(60));
    assert_eq!(steps(&kit.sweep().await), [(Arrow::Promote, State::Queued)]);
    assert_eq!(kit.ready(1).await[0].spec.labels, labels);

    let peer = kit.session("one").await;
    kit.start(&job, &peer).await;
    assert_eq!(
        kit.view(&job).await.deadline,
        Some(kit.clock.now().after(Duration::from_millis(7001)))
    );
    kit.pass(Duration::from_millis(7001));
    assert_eq!(
        steps(&kit.sweep().await),
        [(Arrow::Deadline, State::Failed)],
        "never tried again"
    );
}

pub(crate) async fn an_account_holds_no_more_than_its_share(kit: Kit) {
    let peer = kit.session("one").await;
    let jobs = [kit.submit().await, kit.submit().await, kit.submit().await];
    let mut foreign = kit.new_job();
    foreign.account_id = "others".to_owned();
    let foreign = kit.submitted(foreign).await;
    let outcomes = kit
        .together(jobs.iter().map(|job| peer.claims(job.key)).collect())
        .await;
    let share = Outcome::Refused(Rejection::Job(Refusal::AccountShare));
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == share).count(),
        1,
        "{outcomes:?}"
    );
    kit.claim(&foreign, &peer).await;
    let accounts = vec![jobs[0].account, foreign.account];
    let held = kit.store.held_by_account(accounts).await.unwrap();
    assert_eq!(
        (held.get(&jobs[0].account), held.get(&foreign.account)),
        (Some(&2), Some(&1))
    );
    let holder = peer.holds(crawlwire_progress::Fence(1));
    moved(kit.commit(complete(jobs[0].key, &holder)).await);
    kit.claim(&jobs[2], &peer).await;
}
