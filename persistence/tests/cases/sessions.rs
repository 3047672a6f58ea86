//! Leases and who has them.

use std::time::Duration;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::Rejection;
use crawlwire_progress::view::JobView;
use crawlwire_progress::{Arrow, Fence, Op, Outcome, State};

use super::{refused, steps};
use crate::support::{Kit, Peer, complete, discover, moved};

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
    kit.commit(Op::Renew(vec![alive.reference(), lost.reference()])).await;
    kit.pass(kit.policy.lease / 2 + Duration::from_secs(1));
    assert!(kit.sweep().await.is_empty());
    kit.commit(Op::Disconnect(lost.reference())).await;
    kit.commit(Op::Renew(vec![lost.reference()])).await;
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

pub(crate) async fn the_same_process_adopts_its_job_and_others_do_not(kit: Kit) {
    let adopt = |job: &JobView, peer: &Peer| Op::Adopt {
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
        Rejection::Job(Refusal::StillConnected)
    );
    kit.commit(Op::Disconnect(old.reference())).await;
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
    kit.commit(Op::Disconnect(new.reference())).await;
    kit.pass(kit.policy.reattach_grace);
    let newest = kit.session_of("newest", Some("uid=1 pid=2")).await;
    assert_eq!(
        refused(kit.commit(adopt(&late, &newest)).await),
        held,
        "the lease is over"
    );
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

pub(crate) async fn a_return_gives_held_jobs_time(kit: Kit) {
    let peer = kit.session("one").await;
    let (assigned, running, free) = (kit.submit().await, kit.submit().await, kit.submit().await);
    let assigned_to = kit.claim(&assigned, &peer).await;
    kit.start(&running, &peer).await;
    kit.pass(kit.policy.job_timeout * 2);
    let recover = Op::Recover {
        server: "crawlwire".to_owned(),
        connected: true,
    };
    // What arrives together with it, before and behind, takes none of that time away.
    let found = discover(running.key, &peer.holds(Fence(1)), "x", &["a"]);
    let more = discover(running.key, &peer.holds(Fence(1)), "y", &["b"]);
    let outcomes = kit.together(vec![found, recover, more, Op::Sweep]).await;
    assert_eq!(outcomes.last(), Some(&Outcome::Swept(Vec::new())));
    kit.pass(kit.policy.accept_timeout - Duration::from_millis(1));
    assert!(kit.sweep().await.is_empty(), "the whole accept time");
    moved(kit.commit(complete(assigned.key, &assigned_to)).await);
    assert_eq!(kit.view(&assigned).await.state, State::Completed);
    assert_eq!(kit.view(&free).await.state, State::Queued);

    kit.pass(kit.policy.lease - kit.policy.accept_timeout);
    kit.commit(Op::Renew(vec![peer.reference()])).await;
    assert!(kit.sweep().await.is_empty(), "one lease without a deadline");
    kit.pass(Duration::from_millis(1));
    assert_eq!(steps(&kit.sweep().await), [(Arrow::Deadline, State::Delayed)]);
}

pub(crate) async fn old_sessions_are_forgotten_whatever_became_of_their_connection(kit: Kit) {
    let (gone, silent, alive) = (
        kit.session("gone").await,
        kit.session("silent").await,
        kit.session("alive").await,
    );
    kit.commit(Op::Disconnect(gone.reference())).await;
    let job = kit.submit().await;
    kit.start(&job, &silent).await;
    kit.pass(Duration::from_secs(25 * 3600));
    kit.commit(Op::Renew(vec![alive.reference()])).await;
    assert_eq!(steps(&kit.sweep().await), [(Arrow::Expire, State::Queued)]);
    // A lease for everybody shows who is still known.
    let recover = Op::Recover {
        server: "crawlwire".to_owned(),
        connected: true,
    };
    kit.commit(recover).await;
    let sessions = kit.store.sessions(9).await.unwrap();
    let known: Vec<_> = sessions.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(known, ["alive"]);
}
