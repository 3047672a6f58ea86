//! Accounts, and what is kept of their tokens.

use crawlwire_progress::admit::Gate;
use crawlwire_progress::store::{NewCredential, Paging, Rejection};
use crawlwire_progress::view::AccountView;
use crawlwire_progress::{AccountKey, Op, Outcome};

use super::{ALL, refused};
use crate::support::{Kit, token};

fn keep(account: &str, host: &str, text: Option<&str>) -> Op {
    Op::KeepCredential {
        new: NewCredential {
            account_id: account.to_owned(),
            host: host.to_owned(),
            token: text.and_then(token),
        },
        by: "ada".to_owned(),
    }
}

async fn kept(kit: &Kit, account: AccountKey) -> Vec<(String, i64, Option<bool>)> {
    let page = kit.store.credentials(account, ALL).await.unwrap();
    page.items
        .into_iter()
        .map(|it| (it.host, it.version, it.is_set))
        .collect()
}

pub(crate) async fn accounts_are_listed_with_their_jobs(kit: Kit) {
    let peer = kit.session("one").await;
    for account in ["first", "second", "second", "third"] {
        let mut new = kit.new_job();
        new.account_id = account.to_owned();
        let job = kit.submitted(new).await;
        if account == "third" {
            kit.start(&job, &peer).await;
        }
    }
    let page = kit.store.accounts(Paging { limit: 2, after: None }).await.unwrap();
    let rest = Paging {
        limit: 2,
        after: page.next,
    };
    let rest = kit.store.accounts(rest).await.unwrap();
    assert_eq!(rest.next, None);
    let told = |account: AccountView| (account.account_id, account.open_jobs, account.held_jobs);
    let all: Vec<_> = page.items.into_iter().chain(rest.items).map(told).collect();
    let expected = [("third", 1, 1), ("second", 2, 0), ("first", 1, 0)];
    assert_eq!(all, expected.map(|(name, open, held)| (name.to_owned(), open, held)));
    let second = kit.store.account("second").await.unwrap().unwrap();
    assert_eq!(told(second), ("second".to_owned(), 2, 0));
    assert_eq!(kit.store.account("Second").await.unwrap(), None);
}

pub(crate) async fn a_token_is_given_and_forgotten_without_a_job(kit: Kit) {
    let host = "https://git.example";
    let none = kit.commit(keep("acme", host, None)).await;
    assert_eq!(refused(none), Rejection::NoSuchCredential);
    let given = keep("acme", host, Some("glpat-1"));
    assert!(!format!("{given:?}").contains("glpat"));
    assert_eq!(kit.commit(given).await, Outcome::Done);
    let account = kit.store.account("acme").await.unwrap().unwrap();
    assert_eq!(
        (account.open_jobs, kept(&kit, account.key).await),
        (0, vec![(host.to_owned(), 1, Some(true))])
    );
    let job = kit.submit().await;
    let read = async || {
        let (token, version) = kit.store.token(job.credential.unwrap()).await.unwrap().unwrap();
        (token.expose().to_owned(), version)
    };
    assert_eq!(read().await, ("glpat-1".to_owned(), 1));
    // The same again is no news, another one opens the gate of a bad one.
    kit.commit(keep("acme", host, Some("glpat-1"))).await;
    let gate = Gate::Credentials {
        account_id: "acme".to_owned(),
        host: host.to_owned(),
    };
    let close = Op::CloseGate {
        gate,
        until: None,
        reason: None,
        by: "bob".to_owned(),
    };
    kit.commit(close).await;
    kit.commit(keep("acme", host, Some("glpat-2"))).await;
    assert!(kit.store.gates().await.unwrap().is_empty());
    assert_eq!(read().await, ("glpat-2".to_owned(), 2));
    for _ in 0..2 {
        kit.commit(keep("acme", host, None)).await;
    }
    assert_eq!(read().await, (String::new(), 3));
    assert_eq!(kept(&kit, account.key).await, [(host.to_owned(), 3, Some(false))]);
    let acts: Vec<_> = kit.store.audit(ALL).await.unwrap().items;
    let acts: Vec<_> = acts
        .iter()
        .map(|row| (row.by.as_str(), row.act.as_str(), row.target.as_str()))
        .collect();
    let target = format!("acme {host}");
    let gate = format!("credentials acme {host}");
    let expected = [
        ("ada", "remove_credential", target.as_str()),
        ("ada", "set_credential", &target),
        ("a new token", "open_gate", &gate),
        ("bob", "close_gate", &gate),
        ("ada", "set_credential", &target),
    ];
    assert_eq!(acts, expected);
    kit.commit(keep("acme", host, Some("glpat-3"))).await;
    assert_eq!(read().await, ("glpat-3".to_owned(), 4));
}
