//! One job's life.

use std::time::Duration;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::Rejection;
use crawlwire_progress::track::Tracker;
use crawlwire_progress::{Arrow, CredentialKey, Fence, JobKey, Op, Outcome, PauseReason, State};

use super::{refused, steps};
use crate::support::{Kit, complete, discover, fail, moved, report, start, token};

pub(crate) async fn a_whole_life(kit: Kit) {
    let job = kit.submit().await;
    let peer = kit.session("legacy-1").await;
    let holder = kit.claim(&job, &peer).await;
    assert_eq!(kit.view(&job).await.session.as_deref(), Some("legacy-1"));
    kit.pass(Duration::from_secs(1));
    let started = moved(kit.commit(start(job.key, &holder)).await);
    assert_eq!(
        (started.from, started.state, started.attempt),
        (Some(State::Assigned), State::Running, 1)
    );
    assert_eq!(
        kit.store.counts().await.unwrap().into_iter().collect::<Vec<_>>(),
        [(State::Running, 1)]
    );
    kit.pass(Duration::from_secs(2));
    let finished = moved(kit.commit(complete(job.key, &holder)).await);
    assert_eq!((finished.state, finished.at), (State::Completed, kit.clock.now()));
    let view = kit.view(&job).await;
    assert_eq!(view.result.as_deref(), Some(r#"{"found":3}"#));
    assert_eq!((view.session, view.finished_at), (None, Some(kit.clock.now())));
    assert_eq!(view.started_at, Some(started.at));
    assert_eq!(view.updated_at, kit.clock.now());
    assert_eq!(kit.arrows(&job).await, ["submit", "claim", "start", "finish"]);
    assert_eq!(
        kit.store.counts().await.unwrap().into_iter().collect::<Vec<_>>(),
        [(State::Completed, 1)]
    );
    assert!(kit.ready(10).await.is_empty());
    kit.store.ping().await.unwrap();
}

pub(crate) async fn a_job_comes_back_as_it_was_given(kit: Kit) {
    let mut new = kit.new_job();
    new.web_app_job_id = Some("theirs".to_owned());
    new.spec.priority = 0.1 + 0.2;
    new.resume = true;
    let spec = new.spec.clone();
    let submitted = kit.submitted(new).await;
    let by_public_id = kit.view(&submitted).await;
    assert_eq!(by_public_id, submitted, "the answer equals what is kept");
    assert_eq!(by_public_id.spec, spec);
    assert_eq!(
        kit.store.job("theirs").await.unwrap().as_ref(),
        Some(&submitted),
        "found by the web app's name"
    );
    assert_eq!(kit.store.job("nobody's").await.unwrap(), None);
    let ready = kit.ready(1).await;
    assert_eq!(
        (&ready[0].spec, ready[0].resume, &ready[0].public_id),
        (&spec, true, &submitted.public_id)
    );
}

pub(crate) async fn refusals_have_no_effect(kit: Kit) {
    let job = kit.submit().await;
    let (one, two) = (kit.session("one").await, kit.session("two").await);
    let nobody = JobKey(999_999);
    let early = one.holds(Fence(0));
    assert_eq!(
        refused(kit.commit(start(job.key, &early)).await),
        Rejection::Job(Refusal::Stale)
    );
    assert_eq!(
        refused(kit.commit(one.claims(nobody)).await),
        Rejection::Job(Refusal::NotFound)
    );
    let holder = kit.start(&job, &one).await;
    let before = kit.view(&job).await;
    let other_session = two.holds(holder.fence);
    let other_fence = one.holds(holder.fence.next());
    let cases = [
        (two.claims(job.key), Refusal::NotQueued),
        (start(job.key, &holder), Refusal::AlreadyStarted),
        (start(job.key, &other_session), Refusal::Stale),
        (complete(job.key, &other_session), Refusal::Stale),
        (complete(job.key, &other_fence), Refusal::Stale),
        (fail(job.key, &other_fence, true), Refusal::Stale),
        (discover(job.key, &other_fence, "x", &["1"]), Refusal::Stale),
        (discover(nobody, &holder, "x", &["1"]), Refusal::NotFound),
        (
            Op::Release {
                job: job.key,
                holder: holder.clone(),
            },
            Refusal::Stale,
        ),
    ];
    kit.pass(Duration::from_secs(1));
    for (op, refusal) in cases {
        let name = format!("{op:?}");
        assert_eq!(refused(kit.commit(op).await), Rejection::Job(refusal), "{name}");
    }
    assert_eq!(kit.view(&job).await, before);
    moved(kit.commit(complete(job.key, &holder)).await);
    assert_eq!(
        refused(kit.commit(complete(job.key, &holder)).await),
        Rejection::Job(Refusal::Stale),
        "an end counts once"
    );
    assert_eq!(kit.arrows(&job).await.len(), 4, "refusals leave no mark");
}

pub(crate) async fn operations_on_one_job_fold_into_one_event(kit: Kit) {
    let peer = kit.session("one").await;
    let job = kit.submit().await;
    let holder = peer.holds(Fence(1));
    let outcomes = kit
        .together(vec![
            peer.claims(job.key),
            start(job.key, &holder),
            Op::Progress(vec![(job.key, holder.lease(), report(1))]),
            complete(job.key, &holder),
        ])
        .await;
    let states: Vec<_> = [0, 1, 3].map(|at| moved(outcomes[at].clone()).state).into();
    assert_eq!(states, [State::Assigned, State::Running, State::Completed]);
    assert_eq!(kit.store.progress(job.key).await.unwrap().map(|kept| kept.n), Some(1));
    let arrows = kit.arrows(&job).await.join(",");
    assert_eq!(
        arrows, "submit,claim,start,finish",
        "in order, however they were batched"
    );
    if let Some(sql) = &kit.sql {
        // The first goes alone if the writer was faster; the rest arrives while it commits.
        let events = kit.arrows(&job).await.len();
        assert!(events <= 3, "{events} events for one job");
        assert!(sql.statistics().batches < sql.statistics().operations);
    }
    let implied = kit.submit().await;
    let holder = kit.claim(&implied, &peer).await;
    moved(kit.commit(complete(implied.key, &holder)).await);
    assert_eq!(kit.arrows(&implied).await, ["submit", "claim", "start,finish"]);
}

pub(crate) async fn a_job_is_claimed_once(kit: Kit) {
    let jobs = [kit.submit().await, kit.submit().await, kit.submit().await];
    let mut claims = Vec::new();
    for number in 0..8 {
        let peer = kit.session(&format!("peer-{number}")).await;
        claims.extend(jobs.iter().map(|job| peer.claims(job.key)));
    }
    let outcomes = kit.together(claims).await;
    let taken = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Moved(_)));
    assert_eq!(taken.count(), jobs.len());
    for job in &jobs {
        assert_eq!(kit.view(job).await.fence, Fence(1));
    }
}

pub(crate) async fn attempts_end_at_their_deadline_and_retries_wait(kit: Kit) {
    let peer = kit.session("one").await;
    let job = kit.submit().await;
    kit.start(&job, &peer).await;
    kit.pass(kit.policy.job_timeout);
    kit.commit(Op::Renew(vec![peer.reference()])).await;
    assert_eq!(steps(&kit.sweep().await), [(Arrow::Deadline, State::Delayed)]);
    let delayed = kit.view(&job).await;
    assert!(delayed.run_at.is_some() && delayed.session.is_none());
    kit.pass(kit.policy.retry_delay);
    assert_eq!(steps(&kit.sweep().await), [(Arrow::Promote, State::Queued)]);
    let holder = kit.claim(&job, &peer).await;
    let failed = moved(kit.commit(fail(job.key, &holder, false)).await);
    assert_eq!((failed.state, failed.attempt), (State::Failed, 2));
    assert_eq!(kit.view(&job).await.error.as_deref(), Some(r#"{"why":"no"}"#));
}

pub(crate) async fn assignments_that_never_start_are_taken_back(kit: Kit) {
    let peer = kit.session("one").await;
    let job = kit.submit().await;
    let holder = kit.claim(&job, &peer).await;
    let release = Op::Release { job: job.key, holder };
    assert_eq!(moved(kit.commit(release).await).state, State::Queued);
    kit.claim(&job, &peer).await;
    kit.pass(kit.policy.accept_timeout);
    assert_eq!(steps(&kit.sweep().await), [(Arrow::Release, State::Paused)]);
    let view = kit.view(&job).await;
    assert_eq!(
        (view.pause_reason, view.attempt, view.fence),
        (Some(PauseReason::Quarantined), 0, Fence(4))
    );
}

pub(crate) async fn a_name_of_the_web_app_is_taken_once(kit: Kit) {
    let mut first = kit.new_job();
    first.web_app_job_id = Some("theirs".to_owned());
    let mut second = kit.new_job();
    second.web_app_job_id = Some("theirs".to_owned());
    let taken = Rejection::NameTaken {
        public_id: first.public_id.clone(),
    };
    let both = vec![Op::Submit(Box::new(first)), Op::Submit(Box::new(second.clone()))];
    let mut outcomes = kit.together(both).await;
    assert_eq!(refused(outcomes.pop().unwrap()), taken);
    assert!(matches!(outcomes.pop(), Some(Outcome::Submitted(_))));
    assert_eq!(refused(kit.commit(Op::Submit(Box::new(second))).await), taken);
}

pub(crate) async fn the_best_job_comes_first(kit: Kit) {
    let mut expected = Vec::new();
    for priority in [1.0, 9.0, 5.0] {
        let mut new = kit.new_job();
        new.spec.priority = priority;
        expected.push((priority, kit.submitted(new).await.key));
    }
    kit.pass(Duration::from_secs(1));
    let mut urgent = kit.new_job();
    urgent.spec.priority = 9.0;
    let urgent = kit.submitted(urgent).await.key;
    let ready: Vec<_> = kit.ready(10).await.iter().map(|job| job.key).collect();
    assert_eq!(ready, [expected[1].1, urgent, expected[2].1, expected[0].1]);
    assert_eq!(kit.ready(2).await.len(), 2);
}

pub(crate) async fn an_older_report_never_replaces_a_newer(kit: Kit) {
    let peer = kit.session("one").await;
    let job = kit.submit().await;
    let holder = kit.start(&job, &peer).await;
    let kept = async || kit.store.progress(job.key).await.unwrap();
    assert_eq!(kept().await, None);
    let reports = |numbers: &[i64]| {
        let reports = numbers.iter().map(|n| (job.key, holder.lease(), report(*n)));
        Op::Progress(reports.collect())
    };
    kit.commit(reports(&[5, 7, 6])).await;
    assert_eq!(
        kept().await,
        Some(Tracker {
            attempt: 1,
            ..Tracker::clone(&report(7))
        })
    );
    kit.commit(reports(&[3])).await;
    kit.together(vec![reports(&[4]), reports(&[6])]).await;
    assert_eq!(kept().await.map(|kept| kept.n), Some(7));
    let stale = peer.holds(Fence(9)).lease();
    kit.commit(Op::Progress(vec![(job.key, stale, report(99))])).await;
    assert_eq!(kept().await.map(|kept| kept.n), Some(7), "of a lease that is over");
    moved(kit.commit(fail(job.key, &holder, true)).await);
    kit.pass(kit.policy.retry_delay);
    kit.sweep().await;
    let holder = kit.start(&job, &peer).await;
    kit.commit(Op::Progress(vec![(job.key, holder.lease(), report(1))]))
        .await;
    assert_eq!(
        kept().await.map(|kept| (kept.attempt, kept.n)),
        Some((2, 1)),
        "a new attempt counts anew"
    );
}

pub(crate) async fn tokens_are_replaced_and_versioned(kit: Kit) {
    let mut new = kit.new_job();
    new.access_token = token("glpat-one");
    let credential = kit.submitted(new).await.credential.unwrap();
    let kept = async || {
        let (token, version) = kit.store.token(credential).await.unwrap().unwrap();
        (token.expose().to_owned(), version)
    };
    assert_eq!(kept().await, ("glpat-one".to_owned(), 1));
    assert_eq!(kit.submit().await.credential, Some(credential), "known without a token");
    let mut newer = kit.new_job();
    newer.access_token = token("glpat-two");
    assert_eq!(kit.submitted(newer).await.credential, Some(credential));
    assert_eq!(kept().await, ("glpat-two".to_owned(), 2));
    let mut elsewhere = kit.new_job();
    elsewhere.spec.host = "https://other.example".to_owned();
    assert_eq!(kit.submitted(elsewhere).await.credential, None);
    let batch = ["glpat-three", "glpat-four"].map(|text| {
        let mut new = kit.new_job();
        new.spec.host = "https://third.example".to_owned();
        new.access_token = token(text);
        Op::Submit(Box::new(new))
    });
    let Some(Outcome::Submitted(view)) = kit.together(batch.into()).await.pop() else {
        panic!("not submitted")
    };
    let (last, _) = kit.store.token(view.credential.unwrap()).await.unwrap().unwrap();
    assert_eq!(last.expose(), "glpat-four");
    assert!(kit.store.token(CredentialKey(999_999)).await.unwrap().is_none());
}
