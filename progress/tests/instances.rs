//! Crawlers that come back to their session, number what they say, and show tokens.

mod support;

use std::time::Duration;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Act, NewInstance, NewSession, Op, Opened, Outcome, Rejection, Said};
use crawlwire_progress::{Arrow, JobKey, Policy, SessionRef, State, Store, TokenKey};
use support::*;

fn world() -> World {
    World::new(Policy::default())
}

fn of(instance: &str, principal: &str) -> Op {
    Op::OpenSession(NewSession {
        confirms: true,
        instance: Some(NewInstance {
            id: instance.to_owned(),
            crawler_id: "crawler".to_owned(),
            principal: principal.to_owned(),
        }),
        ..new_session("crawler-1", None)
    })
}

fn opened(outcome: Outcome) -> Opened {
    match outcome {
        Outcome::SessionOpened(opened) => opened,
        other => panic!("not opened: {other:?}"),
    }
}

fn comes(world: &World) -> Opened {
    opened(world.store.apply(of("i", "unix:1")))
}

fn said(session: SessionRef, seq: i64, ops: Vec<Op>) -> Op {
    Op::Said {
        session,
        seq,
        fingerprint: 100 + seq,
        ops,
        refused: None,
    }
}

fn say(world: &World, session: SessionRef, seq: i64, ops: Vec<Op>) -> Said {
    match world.store.apply(said(session, seq, ops)) {
        Outcome::Said(said) => said,
        other => panic!("not said: {other:?}"),
    }
}

fn nothing() -> Said {
    Said::Applied(Vec::new())
}

fn kept(world: &World, job: JobKey) -> Option<String> {
    ready(world.store.checkpoint(job)).unwrap()
}

#[test]
fn an_instance_comes_back_to_its_session_and_what_it_held() {
    let world = world();
    let first = comes(&world);
    assert_eq!((first.session.epoch.0, first.high_water, first.leases.len()), (1, 0, 0));
    let (running, assigned, lost) = (world.submitted("a"), world.submitted("b"), world.submitted("c"));
    let key = first.session.key;
    world.running(running, key);
    let waiting = world.assigned(assigned, key);
    let returned = world.running(lost, key);
    assert_eq!(say(&world, first.session, 1, vec![]), nothing());
    world.act(running, Act::Pause);

    // Its lease ended long ago, and nobody has looked.
    world.store.apply(Op::Disconnect(first.session));
    world.later(Duration::from_secs(3600));
    let events = world.events(running).len();
    let ops = vec![give_back(lost, &returned), of("i", "unix:1")];
    let again = opened(world.store.apply_all(ops).pop().unwrap());
    assert_eq!((again.session.key, again.session.epoch.0), (key, 2));
    assert_eq!((again.high_water, again.fingerprint), (1, 101));
    let leases: Vec<_> = again
        .leases
        .iter()
        .map(|it| (it.key, it.fence.0, it.attempt, it.state))
        .collect();
    assert_eq!(
        leases,
        [(running, 1, 1, State::Running), (assigned, 1, 0, State::Assigned)]
    );
    assert_eq!(again.leases[0].want, world.row(running).want);
    assert_eq!(world.events(running).len(), events, "nothing happened to its jobs");
    assert_eq!(world.lease_of(key), world.now().after(world.policy.lease));
    moved(world.store.apply(start(assigned, &waiting)));
}

#[test]
fn one_batch_may_open_an_instance_twice() {
    let world = world();
    let outcomes = world
        .store
        .apply_all(vec![of("i", "unix:1"), of("i", "unix:1"), of("i", "unix:2")]);
    let [one, two, three] = outcomes.try_into().unwrap();
    let (one, two) = (opened(one), opened(two));
    assert_eq!((one.session.key, two.session.epoch.0), (two.session.key, 2));
    assert_eq!(three, Outcome::Refused(Rejection::InstanceTaken));
    let views = ready(world.store.sessions(10)).unwrap();
    assert_eq!((views.len(), views[0].epoch.0), (1, 2));
    assert_eq!(comes(&world).session.epoch.0, 3);
}

#[test]
fn an_instance_belongs_to_one() {
    let world = world();
    let mine = comes(&world);
    let theirs = world.store.apply(of("i", "unix:2"));
    assert_eq!(theirs, Outcome::Refused(Rejection::InstanceTaken));
    assert_eq!(say(&world, mine.session, 1, vec![]), nothing(), "nothing has changed");
    let other = opened(world.store.apply(of("j", "unix:2")));
    assert_ne!(other.session.key, mine.session.key);
}

#[test]
fn an_earlier_connection_does_not_speak_for_the_session() {
    let world = world();
    let job = world.submitted("a");
    let old = comes(&world).session;
    let new = comes(&world).session;
    let claim = |session| Op::Claim {
        job,
        session,
        name: "crawler-1".into(),
    };
    assert_eq!(world.store.apply(claim(old)), refused(Refusal::Stale));
    assert_eq!(
        world.store.apply(Op::Renew(vec![old, new])),
        Outcome::Renewed { lost: vec![old] }
    );
    let lease = world.lease_of(new.key);
    assert_eq!(world.store.apply(Op::Disconnect(old)), Outcome::Done);
    assert_eq!(world.lease_of(new.key), lease, "it is not the one that went");
    assert_eq!(say(&world, old, 1, vec![]), Said::Replaced);
    let fact = moved(world.store.apply(claim(new)));
    let holder = holder(new.key, fact.fence);
    assert_eq!(say(&world, old, 1, vec![start(job, &holder)]), Said::Replaced);
    assert_eq!(world.row(job).state, State::Assigned);
}

#[test]
fn what_is_said_twice_has_its_effect_once() {
    let world = world();
    let session = comes(&world).session;
    let job = world.submitted("a");
    let holder = world.assigned(job, session.key);
    let begins = || vec![start(job, &holder), checkpoint(job, &holder, "1")];
    let Said::Applied(outcomes) = say(&world, session, 1, begins()) else {
        panic!("it is the next number")
    };
    assert!(matches!(&outcomes[..], [Outcome::Moved(fact), Outcome::Done] if fact.arrow == Arrow::Start));
    let repeated = Said::Repeated {
        conflict: false,
        refused: None,
    };
    assert_eq!(say(&world, session, 1, begins()), repeated);
    let other = Op::Said {
        session,
        seq: 1,
        fingerprint: 5,
        ops: vec![complete(job, &holder)],
        refused: None,
    };
    let conflict = Outcome::Said(Said::Repeated {
        conflict: true,
        refused: None,
    });
    assert_eq!(world.store.apply(other), conflict);
    assert_eq!(
        say(&world, session, 3, vec![complete(job, &holder)]),
        Said::Gap { high_water: 1 }
    );
    assert_eq!(say(&world, session, -1, begins()), repeated);
    assert_eq!(world.row(job).state, State::Running);

    let ended = say(&world, session, 2, vec![complete(job, &holder)]);
    assert!(matches!(ended, Said::Applied(_)));
    assert_eq!(
        say(&world, session, 1, begins()),
        repeated,
        "of an older one the text is not known here"
    );
    assert_eq!(world.view(job).attempt, 1);
    let again = comes(&world);
    assert_eq!(again.high_water, 2);
    assert_eq!(say(&world, again.session, 2, vec![complete(job, &holder)]), repeated);
}

#[test]
fn a_number_is_used_up_whatever_becomes_of_what_was_said() {
    let world = world();
    let session = comes(&world).session;
    let job = world.submitted("a");
    let nobodys = holder(session.key, crawlwire_progress::Fence(1));
    let refused = say(&world, session, 1, vec![start(job, &nobodys)]);
    assert_eq!(refused, Said::Applied(vec![support::refused(Refusal::Stale)]));
    assert_eq!(
        say(&world, session, 2, vec![]),
        nothing(),
        "a line that could not be understood"
    );
    assert_eq!(comes(&world).high_water, 2);
}

#[test]
fn much_that_is_said_at_once_is_one_row() {
    let world = world();
    let session = comes(&world).session;
    let job = world.submitted("a");
    let holder = world.assigned(job, session.key);
    let page = |page: i64| vec![checkpoint(job, &holder, &page.to_string())];
    let mut ops = vec![said(session, 1, vec![start(job, &holder)])];
    ops.extend((2..50).map(|seq| said(session, seq, page(seq))));
    ops.extend([
        said(session, 49, page(0)),
        said(session, 51, page(0)),
        Op::Renew(vec![session]),
    ]);
    let plan = world.store.plan_of(ops.clone());
    assert_eq!(
        (plan.sessions.len(), plan.checkpoints.len(), plan.changed.len()),
        (1, 1, 1)
    );
    assert_eq!((plan.sessions[0].high_water, plan.sessions[0].fingerprint), (49, 149));
    let outcomes = world.store.apply_all(ops);
    assert_eq!(
        outcomes[49],
        Outcome::Said(Said::Repeated {
            conflict: false,
            refused: None
        })
    );
    assert_eq!(outcomes[50], Outcome::Said(Said::Gap { high_water: 49 }));
    assert_eq!(kept(&world, job).as_deref(), Some("49"));
}

#[test]
fn a_forgotten_instance_begins_anew() {
    let world = world();
    let first = comes(&world);
    assert_eq!(say(&world, first.session, 1, vec![]), nothing());
    world.store.apply(Op::Disconnect(first.session));
    world.later(Duration::from_secs(24 * 3600));
    world.sweep();
    let still = comes(&world);
    assert_eq!((still.session.key, still.high_water), (first.session.key, 1));
    world.later(Duration::from_secs(24 * 3600) + world.policy.lease + Duration::from_secs(1));
    world.sweep();
    assert_eq!(say(&world, still.session, 2, vec![]), Said::Replaced);
    let new = comes(&world);
    assert_ne!(new.session.key, first.session.key);
    assert_eq!((new.session.epoch.0, new.high_water), (1, 0));
}

#[test]
fn the_last_checkpoint_goes_to_the_next_attempt() {
    let world = world();
    let session = comes(&world).session;
    let job = world.submitted("a");
    let first = world.running(job, session.key);
    assert_eq!(kept(&world, job), None);
    for cursor in ["1", "2"] {
        assert_eq!(world.store.apply(checkpoint(job, &first, cursor)), Outcome::Done);
    }
    let events = world.events(job).len();
    moved(world.store.apply(give_back(job, &first)));
    assert_eq!(world.store.apply(checkpoint(job, &first, "3")), refused(Refusal::Stale));
    assert_eq!(
        world.store.apply(checkpoint(JobKey(99), &first, "3")),
        refused(Refusal::NotFound)
    );
    assert_eq!(kept(&world, job).as_deref(), Some("2"));
    assert_eq!(world.events(job).len(), events + 1, "a checkpoint is no event");
    let second = world.running(job, session.key);
    assert!(world.view(job).resume);
    moved(world.store.apply(complete(job, &second)));
    assert_eq!(
        world.store.apply(checkpoint(job, &second, "3")),
        refused(Refusal::Stale)
    );
    world.store.apply(Op::Delete {
        root: job,
        by: BY.to_owned(),
    });
    assert_eq!(kept(&world, job), None);
}

#[test]
fn tokens_are_made_and_taken_back_and_both_is_known() {
    let world = world();
    let create = |name: &str| {
        world.store.apply(Op::CreateToken {
            name: name.to_owned(),
            role: "crawler".to_owned(),
            hash: format!("hash of {name}"),
            by: BY.to_owned(),
        })
    };
    let revoke = |name: &str| {
        world.store.apply(Op::RevokeToken {
            name: name.to_owned(),
            by: BY.to_owned(),
        })
    };
    let (one, two) = (TokenKey(1), TokenKey(2));
    assert_eq!(create("one"), Outcome::TokenCreated(one));
    assert_eq!(create("two"), Outcome::TokenCreated(two));
    assert_eq!(create("one"), Outcome::Refused(Rejection::TokenNameTaken));
    assert_eq!(revoke("none"), Outcome::Refused(Rejection::NoSuchToken));
    world.later(Duration::from_secs(5));
    let at = world.now();
    assert_eq!(world.store.apply(Op::TokenUsed(one)), Outcome::Done);
    assert_eq!(world.store.apply(Op::TokenUsed(TokenKey(99))), Outcome::Done);
    assert_eq!(revoke("one"), Outcome::Done);
    world.later(Duration::from_secs(5));
    assert_eq!(revoke("one"), Outcome::Done, "it is so already");
    assert_eq!(
        create("one"),
        Outcome::Refused(Rejection::TokenNameTaken),
        "a name is used once"
    );

    let tokens = ready(world.store.crawler_tokens()).unwrap();
    let seen: Vec<_> = tokens
        .iter()
        .map(|it| (it.key, it.revoked_at, it.last_used_at))
        .collect();
    assert_eq!(seen, [(two, None, None), (one, Some(at), Some(at))]);
    assert_eq!(
        ready(world.store.crawler_token(one)).unwrap().as_ref(),
        Some(&tokens[1])
    );
    assert_eq!(ready(world.store.crawler_token(TokenKey(3))).unwrap(), None);
    assert!(!format!("{tokens:?}").contains("hash of"));
    let audit: Vec<_> = world.audit().into_iter().map(|row| (row.act, row.target)).collect();
    let acts = [
        ("create_token", "one"),
        ("create_token", "two"),
        ("revoke_token", "one"),
    ];
    assert_eq!(audit.len(), acts.len());
    for act in acts {
        assert!(audit.contains(&(act.0.to_owned(), act.1.to_owned())), "{audit:?}");
    }
}
