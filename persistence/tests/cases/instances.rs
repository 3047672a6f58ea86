//! Crawlers that come back to their session, number what they say, and show tokens.

use std::time::Duration;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Act, Holder, Rejection, Said, UNTOLD_MAX};
use crawlwire_progress::{Arrow, Op, Outcome, State, TokenKey, Want};

use super::{ALL, refused};
use crate::support::{
    Kit, Peer, checkpoint, complete, create_token, discover, give_back, moved, of_instance, said, start,
};

pub(crate) async fn an_instance_comes_back_to_what_it_held(kit: Kit) {
    let first = kit.comes("i").await;
    assert_eq!((first.session.epoch.0, first.high_water, first.leases.len()), (1, 0, 0));
    let peer = Peer::from(&first);
    let (running, assigned, other) = (kit.submit().await, kit.submit().await, kit.submit().await);
    let holder = kit.start(&running, &peer).await;
    let waiting = kit.claim(&assigned, &peer).await;
    kit.start(&other, &kit.session("another").await).await;
    kit.act(&running, Act::Cancel).await;
    kit.says(first.session, 1, vec![]).await;
    kit.commit(Op::Disconnect(first.session)).await;
    kit.pass(Duration::from_secs(3600));

    let again = kit.comes("i").await;
    assert_eq!((again.session.key, again.session.epoch.0), (first.session.key, 2));
    assert_eq!((again.high_water, again.fingerprint), (1, -1));
    let leases: Vec<_> = again
        .leases
        .iter()
        .map(|it| (it.key, it.fence, it.attempt, it.state))
        .collect();
    let expected = [
        (running.key, holder.fence, 1, State::Running),
        (assigned.key, waiting.fence, 0, State::Assigned),
    ];
    assert_eq!(leases, expected);
    assert_eq!((again.leases[0].want, again.leases[1].want), (Some(Want::Cancel), None));
    assert_eq!(again.leases[0].public_id, running.public_id);
    assert_eq!(
        kit.arrows(&assigned).await,
        ["submit", "claim"],
        "nothing happened to it"
    );
    moved(kit.commit(start(assigned.key, &waiting)).await);

    let views = kit.store.sessions(10).await.unwrap();
    let view = views.iter().find(|view| view.key == first.session.key).unwrap();
    assert!(view.connected);
    assert_eq!((view.epoch.0, view.held), (2, 2));
    let instance = view.instance.as_ref().unwrap();
    assert_eq!(
        (&*instance.id, &*instance.crawler_id, &*instance.principal),
        ("i", "crawler", "unix:1")
    );
    assert_eq!(instance.high_water, 1);
}

pub(crate) async fn an_instance_belongs_to_one_principal(kit: Kit) {
    let mine = kit.comes("i").await;
    assert_eq!(
        refused(kit.commit(of_instance("i", "unix:2")).await),
        Rejection::InstanceTaken
    );
    assert_eq!(kit.says(mine.session, 1, vec![]).await, Said::Applied(vec![]));
    // Together with others, and the same twice.
    let ops = vec![
        of_instance("j", "unix:2"),
        of_instance("i", "unix:2"),
        of_instance("j", "unix:2"),
    ];
    let outcomes = kit.together(ops).await;
    let [Outcome::SessionOpened(one), taken, Outcome::SessionOpened(two)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(*taken, Outcome::Refused(Rejection::InstanceTaken));
    assert_eq!((one.session.key, two.session.epoch.0), (two.session.key, 2));
}

pub(crate) async fn an_earlier_connection_has_no_say(kit: Kit) {
    let old = kit.comes("i").await;
    let new = kit.comes("i").await;
    let job = kit.submit().await;
    let stale = Rejection::Job(Refusal::Stale);
    assert_eq!(refused(kit.commit(Peer::from(&old).claims(job.key)).await), stale);
    let lost = Outcome::Renewed {
        lost: vec![old.session],
    };
    assert_eq!(kit.commit(Op::Renew(vec![old.session, new.session])).await, lost);
    kit.commit(Op::Disconnect(old.session)).await;
    assert!(kit.store.sessions(10).await.unwrap()[0].connected, "another one stands");
    let holder = kit.claim(&job, &Peer::from(&new)).await;
    let begins = vec![start(job.key, &holder)];
    assert_eq!(kit.says(old.session, 1, begins).await, Said::Replaced);
    assert_eq!(kit.view(&job).await.state, State::Assigned);
}

pub(crate) async fn what_is_said_twice_has_its_effect_once(kit: Kit) {
    let opened = kit.comes("i").await;
    let session = opened.session;
    let job = kit.submit().await;
    let holder = kit.claim(&job, &Peer::from(&opened)).await;
    let found = || discover(job.key, &holder, "x", &["a", "b"]);
    let begins = || vec![start(job.key, &holder), found(), checkpoint(job.key, &holder, "{}")];
    // The same line over two connections at once, as it looks when one of them is slow to die.
    let outcomes = kit
        .together(vec![
            said(session, 1, begins()),
            said(session, 1, begins()),
            said(session, 3, vec![]),
        ])
        .await;
    let repeated = Said::Repeated {
        conflict: false,
        refused: None,
    };
    assert!(
        matches!(&outcomes[0], Outcome::Said(Said::Applied(inner)) if inner.len() == 3),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[1], Outcome::Said(repeated.clone()));
    assert_eq!(outcomes[2], Outcome::Said(Said::Gap { high_water: 1 }));
    assert_eq!(kit.says(session, 1, begins()).await, repeated);
    let other = Op::Said {
        session,
        seq: 1,
        fingerprint: 5,
        ops: begins(),
        refused: None,
    };
    assert_eq!(
        kit.commit(other).await,
        Outcome::Said(Said::Repeated {
            conflict: true,
            refused: None
        })
    );
    let view = kit.view(&job).await;
    assert_eq!((view.attempt, view.tree.children), (1, 2));

    // A number is used up by what has no effect, too.
    let late = kit.says(session, 2, begins()).await;
    let Said::Applied(late) = late else { panic!("{late:?}") };
    assert_eq!(refused(late[0].clone()), Rejection::Job(Refusal::AlreadyStarted));
    let ended = kit.says(session, 3, vec![complete(job.key, &holder)]).await;
    let Said::Applied(ended) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(moved(ended[0].clone()).state, State::Completed);
    assert_eq!(kit.arrows(&job).await, ["submit", "claim", "start", "finish"]);
    assert_eq!(kit.comes("i").await.high_water, 3);
}

pub(crate) async fn what_was_refused_is_known_to_the_next_connection(kit: Kit) {
    let opened = kit.comes("i").await;
    let (session, peer) = (opened.session, Peer::from(&opened));
    assert!(opened.refused.is_empty());
    let job = kit.submit().await;
    let holder = kit.claim(&job, &peer).await;
    let late = Holder {
        fence: holder.fence.next(),
        ..holder.clone()
    };
    kit.says(session, 1, vec![start(job.key, &holder)]).await;
    kit.says(session, 2, vec![complete(job.key, &late)]).await;
    // The last of them decides, and what is so already is well.
    kit.says(
        session,
        3,
        vec![checkpoint(job.key, &holder, "{}"), start(job.key, &holder)],
    )
    .await;
    let unreadable = Op::Said {
        session,
        seq: 4,
        fingerprint: -4,
        ops: vec![],
        refused: Some("invalid_message"),
    };
    assert_eq!(kit.commit(unreadable).await, Outcome::Said(Said::Applied(vec![])));
    kit.says(session, 5, vec![start(job.key, &holder), complete(job.key, &holder)])
        .await;
    // One that is opened again in the batch in which something is refused knows it, too.
    let outcomes = kit
        .together(vec![
            said(session, 6, vec![checkpoint(job.key, &holder, "{}")]),
            of_instance("i", "unix:1"),
        ])
        .await;
    let known = |outcome: &Outcome| match outcome {
        Outcome::SessionOpened(opened) => opened
            .refused
            .iter()
            .map(|(seq, code)| (seq, code.to_owned()))
            .collect(),
        other => panic!("not opened: {other:?}"),
    };
    let refused: Vec<_> = known(&outcomes[1]);
    let expected = [(2, "stale"), (4, "invalid_message"), (6, "stale")].map(|(seq, code)| (seq, code.to_owned()));
    assert_eq!(refused, expected);
    let Outcome::SessionOpened(again) = &outcomes[1] else {
        unreachable!()
    };
    let session = again.session;
    let repeated = |refused: Option<&str>| Said::Repeated {
        conflict: false,
        refused: refused.map(str::to_owned),
    };
    assert_eq!(kit.says(session, 2, vec![]).await, repeated(Some("stale")));
    assert_eq!(kit.says(session, 5, vec![]).await, repeated(None));

    let window = i64::from(UNTOLD_MAX);
    kit.together((7..=window + 2).map(|seq| said(session, seq, vec![])).collect())
        .await;
    let later = kit.comes("i").await;
    assert_eq!(later.high_water, window + 2);
    assert_eq!(
        (later.refused.of(2), later.refused.of(4)),
        (None, Some("invalid_message"))
    );
    for seq in window + 3..=window + 6 {
        kit.says(later.session, seq, vec![]).await;
    }
    assert!(kit.comes("i").await.refused.is_empty());
}

pub(crate) async fn a_job_that_is_given_back_costs_nothing(kit: Kit) {
    let peer = Peer::from(&kit.comes("i").await);
    let job = kit.submit().await;
    let holder = kit.start(&job, &peer).await;
    for cursor in [r#"{"page":1}"#, r#"{"page":2}"#] {
        assert_eq!(kit.commit(checkpoint(job.key, &holder, cursor)).await, Outcome::Done);
    }
    let fact = moved(kit.commit(give_back(job.key, &holder)).await);
    assert_eq!(
        (fact.arrow, fact.state, fact.fence),
        (Arrow::Return, State::Queued, holder.fence.next())
    );
    let view = kit.view(&job).await;
    assert_eq!((view.failures, view.misses, view.resume), (0, 0, true));
    let stale = Rejection::Job(Refusal::Stale);
    assert_eq!(refused(kit.commit(checkpoint(job.key, &holder, "{}")).await), stale);
    assert_eq!(
        kit.store.checkpoint(job.key).await.unwrap().as_deref(),
        Some(r#"{"page":2}"#)
    );

    // Whoever confirms what is not wished any more has let it go all the same.
    let holder = kit.start(&job, &peer).await;
    kit.act(&job, Act::Pause).await;
    kit.act(&job, Act::Resume).await;
    let confirm = Op::Confirm { job: job.key, holder };
    let fact = moved(kit.commit(confirm).await);
    assert_eq!((fact.arrow, fact.state), (Arrow::Return, State::Queued));
    // What is wished is granted.
    let holder = kit.start(&job, &peer).await;
    kit.act(&job, Act::Cancel).await;
    assert_eq!(
        moved(kit.commit(give_back(job.key, &holder)).await).state,
        State::Cancelled
    );
    let deleted = Op::Delete {
        root: job.key,
        by: "me".to_owned(),
    };
    kit.commit(deleted).await;
    assert_eq!(kit.store.checkpoint(job.key).await.unwrap(), None);
}

pub(crate) async fn crawler_tokens_come_and_go(kit: Kit) {
    let revoke = |name: &str| Op::RevokeToken {
        name: name.to_owned(),
        by: "me".to_owned(),
    };
    let outcomes = kit
        .together(vec![
            create_token("one"),
            create_token("two"),
            create_token("one"),
            revoke("none"),
        ])
        .await;
    let expected = [
        Outcome::TokenCreated(TokenKey(1)),
        Outcome::TokenCreated(TokenKey(2)),
        Outcome::Refused(Rejection::TokenNameTaken),
        Outcome::Refused(Rejection::NoSuchToken),
    ];
    assert_eq!(outcomes, expected);
    kit.pass(Duration::from_secs(5));
    let at = kit.clock.now();
    for op in [Op::TokenUsed(TokenKey(1)), Op::TokenUsed(TokenKey(99)), revoke("one")] {
        assert_eq!(kit.commit(op).await, Outcome::Done);
    }
    kit.pass(Duration::from_secs(5));
    assert_eq!(kit.commit(revoke("one")).await, Outcome::Done);
    assert_eq!(
        refused(kit.commit(create_token("one")).await),
        Rejection::TokenNameTaken
    );
    let tokens = kit.store.crawler_tokens().await.unwrap();
    let seen: Vec<_> = tokens
        .iter()
        .map(|it| (it.key.0, it.revoked_at, it.last_used_at))
        .collect();
    assert_eq!(seen, [(2, None, None), (1, Some(at), Some(at))]);
    let one = kit.store.crawler_token(TokenKey(1)).await.unwrap();
    assert_eq!(one.as_ref(), Some(&tokens[1]));
    let one = one.unwrap();
    assert_eq!((&*one.name, &*one.role, &*one.hash), ("one", "crawler", "hash of one"));
    assert_eq!(kit.store.crawler_token(TokenKey(3)).await.unwrap(), None);
    let acts: Vec<_> = kit
        .store
        .audit(ALL)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|row| row.act)
        .collect();
    assert_eq!(acts, ["revoke_token", "create_token", "create_token"]);
}
