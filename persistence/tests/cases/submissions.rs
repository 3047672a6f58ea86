//! Submissions that are repeated, and many jobs at once.

use crawlwire_progress::job::State;
use crawlwire_progress::store::{Act, NewJob, Once, Rejection};
use crawlwire_progress::{JobKey, Op, Outcome};

use super::{ALL, refused};
use crate::support::{Kit, complete, moved};

fn once(kit: &Kit, key: &str, fingerprint: i64) -> NewJob {
    NewJob {
        once: Some(Once {
            key: key.to_owned(),
            fingerprint,
        }),
        ..kit.new_job()
    }
}

fn submit(new: &NewJob) -> Op {
    Op::Submit(Box::new(new.clone()))
}

fn repeated(new: &NewJob) -> Outcome {
    Outcome::Repeated {
        public_id: new.public_id.clone(),
    }
}

pub(crate) async fn a_repeated_submission_is_one(kit: Kit) {
    let first = once(&kit, "key", 7);
    let again = once(&kit, "key", 7);
    let together = kit.together(vec![submit(&first), submit(&again)]).await;
    assert!(matches!(together[0], Outcome::Submitted(_)), "{together:?}");
    assert_eq!(together[1], repeated(&first));
    kit.submitted(once(&kit, "Key", 7)).await;
    // The queue is full by now, and that concerns new jobs only.
    assert_eq!(kit.commit(submit(&again)).await, repeated(&first));
    assert_eq!(
        refused(kit.commit(submit(&once(&kit, "key", -7))).await),
        Rejection::KeyReused
    );
    let new = submit(&once(&kit, "another", 7));
    assert_eq!(refused(kit.commit(new).await), Rejection::QueueFull { limit: 2 });
    assert_eq!(kit.store.counts().await.unwrap()[&State::Queued], 2);
    // A key lives as long as its job, however that ended.
    let job = kit.store.job(&first.public_id).await.unwrap().unwrap();
    kit.act(&job, Act::Cancel).await;
    assert_eq!(kit.commit(submit(&again)).await, repeated(&first));
    let delete = Op::Delete {
        root: job.key,
        by: "somebody".to_owned(),
    };
    kit.commit(delete).await;
    assert!(matches!(kit.commit(submit(&again)).await, Outcome::Submitted(_)));
}

pub(crate) async fn many_are_submitted_each_by_itself(kit: Kit) {
    let taken = kit.submit().await;
    let mut named = once(&kit, "1 key", 7);
    named.web_app_job_id = Some(taken.web_app_job_id.clone());
    let jobs = vec![once(&kit, "0 key", 7), named, once(&kit, "2 key", 7)];
    let Outcome::SubmittedAll(outcomes) = kit.commit(Op::SubmitAll(jobs.clone())).await else {
        panic!("not submitted")
    };
    let name_taken = Outcome::Refused(Rejection::NameTaken {
        public_id: taken.public_id.clone(),
    });
    assert!(matches!(&outcomes[0], Outcome::Submitted(view) if view.public_id == jobs[0].public_id));
    assert_eq!(outcomes[1], name_taken);
    assert!(matches!(&outcomes[2], Outcome::Submitted(view) if view.public_id == jobs[2].public_id));
    let again = kit.commit(Op::SubmitAll(jobs.clone())).await;
    let each = vec![repeated(&jobs[0]), name_taken, repeated(&jobs[2])];
    assert_eq!(again, Outcome::SubmittedAll(each));
    // Another body under the key: nothing of it, also not what is new in it.
    let other = vec![once(&kit, "3 key", 8), once(&kit, "2 key", 8)];
    assert_eq!(refused(kit.commit(Op::SubmitAll(other)).await), Rejection::KeyReused);
    assert_eq!(kit.store.counts().await.unwrap()[&State::Queued], 3);
    assert_eq!(
        kit.commit(Op::SubmitAll(Vec::new())).await,
        Outcome::SubmittedAll(Vec::new())
    );
}

pub(crate) async fn an_act_on_many_leaves_out_what_does_not_allow_it(kit: Kit) {
    let peer = kit.session("one").await;
    let (queued, held, over) = (kit.submit().await, kit.submit().await, kit.submit().await);
    kit.start(&held, &peer).await;
    let holder = kit.start(&over, &peer).await;
    moved(kit.commit(complete(over.key, &holder)).await);
    let op = |act| Op::ActAll {
        jobs: vec![queued.key, held.key, over.key, JobKey(i64::MAX)],
        act,
        target: "status=queued".to_owned(),
        by: "ada".to_owned(),
    };
    let done = async |act| match kit.commit(op(act)).await {
        Outcome::Acted { facts, next: None } => facts.into_iter().map(|fact| fact.public_id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        done(Act::SetPriority(3.0)).await,
        [queued.public_id.clone(), held.public_id.clone()]
    );
    let cancelled = done(Act::Cancel).await;
    assert_eq!(
        cancelled,
        [queued.public_id.as_str(), &held.public_id, &held.public_id],
        "it is taken from its crawler"
    );
    assert!(done(Act::Cancel).await.is_empty());
    for (job, state) in [
        (&queued, State::Cancelled),
        (&held, State::Cancelled),
        (&over, State::Completed),
    ] {
        assert_eq!(kit.view(job).await.state, state);
    }
    let record = kit.store.audit(ALL).await.unwrap().items;
    let record: Vec<_> = record
        .iter()
        .map(|row| {
            (
                row.by.as_str(),
                row.act.as_str(),
                row.target.as_str(),
                row.detail.as_deref().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        record,
        [
            ("ada", "cancel", "status=queued", r#"{"arrows":3,"jobs":2}"#),
            (
                "ada",
                "set_priority",
                "status=queued",
                r#"{"arrows":2,"jobs":2,"priority":3.0}"#
            ),
        ]
    );
}
