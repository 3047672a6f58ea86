//! What every store has to do, run over memory, SQLite and PostgreSQL.

mod support;

use support::Kit;

/// Runs each case over each store, under the policy that the case asks for.
macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::cases::$case(super::Kit::memory(super::cases::policy(stringify!($case)))).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::cases::$case(super::Kit::sqlite(super::cases::policy(stringify!($case))).await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                if let Some(kit) = super::Kit::postgres(super::cases::policy(stringify!($case))).await {
                    super::cases::$case(kit).await;
                }
            })+
        }
    };
}

suite!(
    a_whole_life,
    a_job_comes_back_as_it_was_given,
    refusals_have_no_effect,
    operations_on_one_job_fold_into_one_event,
    a_job_is_claimed_once,
    a_lease_that_ends_gives_the_job_back,
    renewals_keep_a_lease_and_a_lost_connection_shortens_it,
    attempts_end_at_their_deadline_and_retries_wait,
    assignments_that_never_start_are_taken_back,
    the_same_process_adopts_its_job_and_others_do_not,
    discoveries_are_unique_for_good,
    budgets_hold_discoveries_back,
    a_name_of_the_web_app_is_taken_once,
    a_full_queue_refuses_submissions_but_not_discoveries,
    an_older_report_never_replaces_a_newer,
    tokens_are_replaced_and_versioned,
    the_best_job_comes_first,
    lists_are_paged_and_filtered,
    histories_and_errors_are_paged,
    a_server_that_returns_grants_a_lease,
    old_sessions_are_forgotten_but_not_while_they_hold_a_job,
);

mod cases {
    use std::time::Duration;

    use crawlwire_progress::discovery::{Budget, Verdict};
    use crawlwire_progress::lifecycle::Refusal;
    use crawlwire_progress::store::{JobFilter, Paging, Rejection};
    use crawlwire_progress::view::ErrorRow;
    use crawlwire_progress::{Arrow, Fact, Fence, JobKey, Op, Outcome, PauseReason, Policy, State};

    use super::support::{Kit, complete, discover, fail, moved, report, start, token};

    const ALL: Paging = Paging {
        limit: 100,
        after: None,
    };

    pub(crate) fn policy(case: &str) -> Policy {
        let policy = Policy {
            misses_max: 2,
            ..Policy::default()
        };
        match case {
            "budgets_hold_discoveries_back" => Policy {
                tree_depth_max: 2,
                children_max: 3,
                tree_jobs_max: 4,
                ..policy
            },
            "a_full_queue_refuses_submissions_but_not_discoveries" => Policy {
                queued_jobs_max: 2,
                ..policy
            },
            _ => policy,
        }
    }

    fn refused(outcome: Outcome) -> Rejection {
        match outcome {
            Outcome::Refused(rejection) => rejection,
            other => panic!("{other:?}"),
        }
    }

    fn verdicts(outcome: Outcome) -> Vec<Verdict> {
        match outcome {
            Outcome::Discovered(verdicts) => verdicts.into_iter().map(|(verdict, _)| verdict).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn steps(facts: &[Fact]) -> Vec<(Arrow, State)> {
        facts.iter().map(|fact| (fact.arrow, fact.state)).collect()
    }

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
        assert!(kit.store.ready(10).await.unwrap().is_empty());
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
        let ready = kit.store.ready(1).await.unwrap();
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

    pub(crate) async fn a_lease_that_ends_gives_the_job_back(kit: Kit) {
        let peer = kit.session("one").await;
        let (running, assigned) = (kit.submit().await, kit.submit().await);
        let holder = kit.start(&running, &peer).await;
        kit.claim(&assigned, &peer).await;
        kit.pass(kit.policy.lease - Duration::from_millis(1));
        assert_eq!(
            steps(&kit.sweep().await),
            [(Arrow::Release, State::Queued)],
            "never started in time, and that is all"
        );
        kit.pass(Duration::from_millis(1));
        assert_eq!(steps(&kit.sweep().await), [(Arrow::Expire, State::Queued)]);
        let view = kit.view(&running).await;
        assert_eq!((view.failures, view.resume, view.session), (1, true, None));
        assert_eq!(
            refused(kit.commit(complete(running.key, &holder)).await),
            Rejection::Job(Refusal::Stale)
        );
        assert_eq!(
            refused(kit.commit(peer.claims(running.key)).await),
            Rejection::Job(Refusal::Stale),
            "a session without a lease gets nothing"
        );
        assert!(kit.sweep().await.is_empty());
    }

    pub(crate) async fn renewals_keep_a_lease_and_a_lost_connection_shortens_it(kit: Kit) {
        let (alive, lost) = (kit.session("alive").await, kit.session("lost").await);
        let (kept, dropped) = (kit.submit().await, kit.submit().await);
        kit.start(&kept, &alive).await;
        kit.start(&dropped, &lost).await;
        kit.pass(kit.policy.lease / 2);
        kit.commit(Op::Renew(vec![alive.key, lost.key])).await;
        kit.pass(kit.policy.lease / 2 + Duration::from_secs(1));
        assert!(kit.sweep().await.is_empty());
        kit.commit(Op::Disconnect(lost.key)).await;
        kit.commit(Op::Renew(vec![lost.key])).await;
        kit.pass(kit.policy.reattach_grace);
        let facts = kit.sweep().await;
        assert_eq!(facts.iter().map(|fact| fact.job).collect::<Vec<_>>(), [dropped.key]);
        let sessions = kit.store.sessions(10).await.unwrap();
        assert_eq!(
            sessions.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(),
            ["alive"]
        );
        assert!(sessions[0].connected && sessions[0].lease_expires_at > kit.clock.now());
    }

    pub(crate) async fn attempts_end_at_their_deadline_and_retries_wait(kit: Kit) {
        let peer = kit.session("one").await;
        let job = kit.submit().await;
        kit.start(&job, &peer).await;
        kit.pass(kit.policy.job_timeout);
        kit.commit(Op::Renew(vec![peer.key])).await;
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

    pub(crate) async fn the_same_process_adopts_its_job_and_others_do_not(kit: Kit) {
        let adopt = |job: &crawlwire_progress::view::JobView, peer: &super::support::Peer| Op::Adopt {
            public_id: job.public_id.clone(),
            session: peer.key,
        };
        let old = kit.session_of("old", Some("uid=1 pid=2")).await;
        let job = kit.submit().await;
        let free = kit.submit().await;
        let holder = kit.start(&job, &old).await;
        let new = kit.session_of("new", Some("uid=1 pid=2")).await;
        let stranger = kit.session_of("stranger", Some("uid=1 pid=3")).await;
        let unknown = kit.session("unknown").await;
        let held = Rejection::Job(Refusal::HeldByAnother);
        assert_eq!(
            refused(kit.commit(adopt(&job, &new)).await),
            held,
            "the old connection stands"
        );
        kit.commit(Op::Disconnect(old.key)).await;
        assert_eq!(refused(kit.commit(adopt(&job, &stranger)).await), held);
        assert_eq!(refused(kit.commit(adopt(&job, &unknown)).await), held);
        assert_eq!(
            refused(kit.commit(adopt(&free, &new)).await),
            Rejection::Job(Refusal::Stale)
        );
        let fact = moved(kit.commit(adopt(&job, &new)).await);
        assert_eq!((fact.fence, fact.attempt), (holder.fence, 1));
        assert_eq!(kit.view(&job).await.session.as_deref(), Some("new"));
        moved(kit.commit(complete(job.key, &new.holds(holder.fence))).await);

        let late = kit.submit().await;
        kit.start(&late, &new).await;
        kit.commit(Op::Disconnect(new.key)).await;
        kit.pass(kit.policy.reattach_grace);
        let newest = kit.session_of("newest", Some("uid=1 pid=2")).await;
        assert_eq!(
            refused(kit.commit(adopt(&late, &newest)).await),
            held,
            "the lease is over"
        );
    }

    pub(crate) async fn discoveries_are_unique_for_good(kit: Kit) {
        use Verdict::{Accepted, Duplicate};
        let peer = kit.session("one").await;
        let root = kit.submit().await;
        let holder = kit.start(&root, &peer).await;
        let found = |prefix: &str| discover(root.key, &holder, prefix, &["a", "b", "a"]);
        assert_eq!(verdicts(kit.commit(found("x")).await), [Accepted, Accepted, Duplicate]);
        assert_eq!(
            verdicts(kit.commit(found("y")).await),
            [Duplicate, Duplicate, Duplicate]
        );
        let child = kit.store.job("x-a").await.unwrap().unwrap();
        assert_eq!(
            (child.parent_id.as_deref(), child.root_id.as_str(), child.depth),
            (Some(root.public_id.as_str()), root.public_id.as_str(), 1)
        );
        assert_eq!(
            (&child.spec.host, &child.spec.provider, &child.account_id),
            (&root.spec.host, &root.spec.provider, &root.account_id)
        );
        let child_holder = kit.start(&child, &peer).await;
        moved(kit.commit(complete(child.key, &child_holder)).await);
        assert_eq!(
            verdicts(kit.commit(found("z")).await),
            [Duplicate, Duplicate, Duplicate],
            "finished ones count"
        );
        let other = kit.store.job("x-b").await.unwrap().unwrap();
        let other_holder = kit.start(&other, &peer).await;
        assert_eq!(
            verdicts(kit.commit(discover(other.key, &other_holder, "w", &["a", "c"])).await),
            [Duplicate, Accepted],
            "found by another parent"
        );
        let grandchild = kit.store.job("w-c").await.unwrap().unwrap();
        assert_eq!((grandchild.depth, &grandchild.root_id), (2, &root.public_id));
        assert_eq!(kit.view(&root).await.children, 2);
        assert_eq!(kit.arrows(&child).await[0], "discover");
        let apart = kit.submit().await;
        let apart_holder = kit.start(&apart, &peer).await;
        assert_eq!(
            verdicts(kit.commit(discover(apart.key, &apart_holder, "v", &["a"])).await),
            [Accepted],
            "another crawl is another world"
        );
    }

    pub(crate) async fn budgets_hold_discoveries_back(kit: Kit) {
        use Verdict::{Accepted, OverBudget};
        let peer = kit.session("one").await;
        let root = kit.submit().await;
        let holder = kit.start(&root, &peer).await;
        assert_eq!(
            verdicts(
                kit.commit(discover(root.key, &holder, "x", &["a", "b", "c", "d"]))
                    .await
            ),
            [Accepted, Accepted, Accepted, OverBudget(Budget::Children)]
        );
        let child = kit.store.job("x-a").await.unwrap().unwrap();
        let holder = kit.start(&child, &peer).await;
        assert_eq!(
            verdicts(kit.commit(discover(child.key, &holder, "y", &["e", "f"])).await),
            [Accepted, OverBudget(Budget::Tree)]
        );
        let deep = kit.store.job("y-e").await.unwrap().unwrap();
        let holder = kit.start(&deep, &peer).await;
        assert_eq!(
            verdicts(kit.commit(discover(deep.key, &holder, "z", &["g"])).await),
            [OverBudget(Budget::Depth)]
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

    pub(crate) async fn a_full_queue_refuses_submissions_but_not_discoveries(kit: Kit) {
        let peer = kit.session("one").await;
        let first = kit.submit().await;
        let holder = kit.start(&first, &peer).await;
        kit.submit().await;
        kit.submit().await;
        let submit = || Op::Submit(Box::new(kit.new_job()));
        assert_eq!(refused(kit.commit(submit()).await), Rejection::QueueFull { limit: 2 });
        let found = kit.commit(discover(first.key, &holder, "x", &["a"])).await;
        assert_eq!(verdicts(found), [Verdict::Accepted]);
        for ready in kit.store.ready(10).await.unwrap() {
            kit.commit(peer.claims(ready.key)).await;
        }
        assert!(matches!(kit.commit(submit()).await, Outcome::Submitted(_)));
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
            Some(crawlwire_progress::view::ProgressView {
                attempt: 1,
                ..report(7)
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
        assert!(
            kit.store
                .token(crawlwire_progress::CredentialKey(999_999))
                .await
                .unwrap()
                .is_none()
        );
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
        let ready: Vec<_> = kit.store.ready(10).await.unwrap().iter().map(|job| job.key).collect();
        assert_eq!(ready, [expected[1].1, urgent, expected[2].1, expected[0].1]);
        assert_eq!(kit.store.ready(2).await.unwrap().len(), 2);
    }

    pub(crate) async fn lists_are_paged_and_filtered(kit: Kit) {
        let peer = kit.session("one").await;
        let mut jobs = Vec::new();
        for number in 0..7 {
            let mut new = kit.new_job();
            new.account_id = if number % 2 == 0 { "even" } else { "odd" }.to_owned();
            jobs.push(kit.submitted(new).await);
        }
        let holder = kit.start(&jobs[0], &peer).await;
        kit.commit(discover(jobs[0].key, &holder, "x", &["a", "b"])).await;
        moved(kit.commit(complete(jobs[0].key, &holder)).await);
        let holder = kit.start(&jobs[2], &peer).await;
        moved(kit.commit(fail(jobs[2].key, &holder, false)).await);
        kit.start(&jobs[3], &peer).await;
        kit.claim(&jobs[4], &peer).await;
        let list = async |filter: JobFilter| {
            let page = kit.store.jobs(filter, ALL).await.unwrap();
            assert_eq!(page.next, None);
            page.items.into_iter().map(|view| view.public_id).collect::<Vec<_>>()
        };
        let with = |states: &[State], account: Option<&str>| JobFilter {
            states: states.to_vec(),
            account_id: account.map(str::to_owned),
            parent: None,
        };
        let id = |at: usize| jobs[at].public_id.clone();
        let (a, b) = ("x-a".to_owned(), "x-b".to_owned());
        assert_eq!(
            list(with(&[], None)).await,
            [b.clone(), a.clone(), id(6), id(5), id(4), id(3), id(2), id(1), id(0)]
        );
        assert_eq!(list(with(&[State::Failed], None)).await, [id(2)]);
        assert_eq!(
            list(with(&[State::Completed, State::Running, State::Assigned], None)).await,
            [id(4), id(3), id(0)]
        );
        assert_eq!(list(with(&[State::Queued], Some("odd"))).await, [id(5), id(1)]);
        assert_eq!(list(with(&[], Some("odd"))).await, [id(5), id(3), id(1)]);
        assert_eq!(list(with(&[], Some("nobody"))).await, Vec::<String>::new());
        assert_eq!(
            list(with(&[State::Delayed, State::Paused], None)).await,
            Vec::<String>::new()
        );
        let children = JobFilter {
            parent: Some(jobs[0].key),
            ..with(&[], Some("even"))
        };
        assert_eq!(list(children.clone()).await, [b, a]);
        let none = JobFilter {
            states: vec![State::Completed],
            ..children
        };
        assert_eq!(list(none).await, Vec::<String>::new());

        let mut after = None;
        let mut seen = Vec::new();
        loop {
            let paging = Paging { limit: 4, after };
            let page = kit.store.jobs(JobFilter::default(), paging).await.unwrap();
            seen.extend(page.items.into_iter().map(|view| view.public_id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, list(with(&[], None)).await, "each once, over three pages");
    }

    pub(crate) async fn histories_and_errors_are_paged(kit: Kit) {
        let peer = kit.session("one").await;
        let job = kit.submit().await;
        let holder = kit.start(&job, &peer).await;
        moved(kit.commit(complete(job.key, &holder)).await);
        let first = kit
            .store
            .events(job.key, Paging { limit: 3, after: None })
            .await
            .unwrap();
        assert_eq!(first.items.len(), 3);
        assert_eq!(
            (first.items[1].session.as_deref(), first.items[1].state),
            (Some("one"), State::Assigned)
        );
        let rest = Paging {
            limit: 3,
            after: first.next,
        };
        let rest = kit.store.events(job.key, rest).await.unwrap();
        assert_eq!((rest.items.len(), rest.next), (1, None));
        assert_eq!(rest.items[0].arrows, ["finish"]);

        let error = |number: i64| ErrorRow {
            at: crawlwire_progress::Timestamp(number),
            category: "network",
            severity: "low",
            code: format!("code-{number}"),
            job: (number == 2).then(|| job.public_id.clone()),
            connection: None,
            message: "a\u{7}b".to_owned(),
        };
        kit.commit(Op::RecordErrors(vec![error(1), error(2), error(3)])).await;
        let newest = kit.store.errors(Paging { limit: 2, after: None }).await.unwrap();
        let codes: Vec<_> = newest.items.iter().map(|error| error.code.as_str()).collect();
        assert_eq!(codes, ["code-3", "code-2"]);
        assert_eq!(newest.items[1].job, Some(job.public_id.clone()));
        assert_eq!(newest.items[0].message, "a\u{7}b");
        let last = Paging {
            limit: 2,
            after: newest.next,
        };
        let last = kit.store.errors(last).await.unwrap();
        assert_eq!((last.items.len(), last.next), (1, None));
    }

    pub(crate) async fn a_server_that_returns_grants_a_lease(kit: Kit) {
        let peer = kit.session_of("one", Some("same")).await;
        let job = kit.submit().await;
        kit.start(&job, &peer).await;
        kit.pass(kit.policy.lease * 2);
        let recover = |connected| Op::Recover {
            server: "crawlwire".to_owned(),
            connected,
        };
        kit.commit(recover(true)).await;
        assert!(kit.sweep().await.is_empty(), "nothing is run again that is still held");
        assert!(kit.store.sessions(9).await.unwrap()[0].connected);
        kit.commit(recover(false)).await;
        let sessions = kit.store.sessions(9).await.unwrap();
        assert!(!sessions[0].connected);
        assert_eq!(sessions[0].lease_expires_at, kit.clock.now().after(kit.policy.lease));
        let again = kit.session_of("two", Some("same")).await;
        let adopt = Op::Adopt {
            public_id: job.public_id.clone(),
            session: again.key,
        };
        assert_eq!(moved(kit.commit(adopt).await).attempt, 1);
    }

    pub(crate) async fn old_sessions_are_forgotten_but_not_while_they_hold_a_job(kit: Kit) {
        let (gone, alive) = (kit.session("gone").await, kit.session("alive").await);
        kit.commit(Op::Disconnect(gone.key)).await;
        let job = kit.submit().await;
        kit.start(&job, &alive).await;
        kit.pass(Duration::from_secs(25 * 3600));
        kit.sweep().await;
        // A lease for everybody shows who is still known.
        let recover = Op::Recover {
            server: "crawlwire".to_owned(),
            connected: true,
        };
        kit.commit(recover).await;
        let known: Vec<_> = kit
            .store
            .sessions(9)
            .await
            .unwrap()
            .into_iter()
            .map(|view| view.name)
            .collect();
        assert_eq!(known, ["alive"]);
    }
}
