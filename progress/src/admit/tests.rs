use std::sync::Arc;

use super::*;

const NOW: Timestamp = Timestamp(1_000);

fn crawler(session: i64, busy: usize, labels: &[&str]) -> Crawler {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    Crawler {
        session: SessionKey(session),
        name: format!("crawler-{session}").into(),
        capabilities: Arc::new(Capabilities {
            labels,
            ..Capabilities::any(2)
        }),
        busy,
        lingering: Arc::default(),
        condition: Condition::Ready,
    }
}

fn gate(gate: Gate, until: Option<i64>) -> ClosedGate {
    ClosedGate {
        gate,
        account: Some(AccountKey(1)),
        closed_at: Timestamp(0),
        until: until.map(Timestamp),
        reason: None,
        by: "somebody".to_owned(),
    }
}

fn asks(labels: &[String]) -> Candidate<'_> {
    Candidate {
        public_id: "a",
        account: AccountKey(1),
        job_type: JobType::CrawlGroup,
        host: "https://a",
        labels,
        token_readable: true,
    }
}

fn world(crawlers: Vec<Crawler>) -> World {
    World {
        crawlers,
        ..World::default()
    }
}

#[test]
fn the_least_busy_capable_crawler_gets_it() {
    let gpu = ["gpu".to_owned()];
    let crawlers = vec![crawler(1, 0, &[]), crawler(2, 1, &["gpu"]), crawler(3, 1, &["gpu"])];
    assert_eq!(admit(&asks(&gpu), &world(crawlers.clone()), NOW), Ok(1));
    assert_eq!(admit(&asks(&[]), &world(crawlers), NOW), Ok(0));
}

#[test]
fn a_crawler_has_no_room_for_a_job_that_it_still_works_on() {
    let mut state = world(vec![crawler(1, 1, &[]), crawler(2, 1, &[])]);
    state.crawlers[0].lingering = Arc::new(["a".to_owned()].into());
    assert_eq!(admit(&asks(&[]), &state, NOW), Ok(1));
    let other = Candidate {
        public_id: "b",
        ..asks(&[])
    };
    assert_eq!(admit(&other, &state, NOW), Ok(0));
    state.crawlers.pop();
    let waiting = Err(Waiting::Slot { capable: 1, slots: 2 });
    assert_eq!(admit(&asks(&[]), &state, NOW), waiting);
}

#[test]
fn each_obstacle_is_named_the_widest_first() {
    let gpu = ["gpu".to_owned()];
    let mut state = world(Vec::new());
    let said = |state: &World, labels| admit(&asks(labels), state, NOW).unwrap_err();
    assert_eq!(said(&state, &[]), Waiting::NoCrawler);
    state.crawlers = vec![crawler(1, 2, &[])];
    let missing = vec![Lack::Label("gpu".to_owned())];
    assert_eq!(said(&state, &gpu), Waiting::NoCapableCrawler { crawlers: 1, missing });
    assert_eq!(said(&state, &[]), Waiting::Slot { capable: 1, slots: 2 });
    state.crawlers[0].condition = Condition::Unresponsive;
    assert_eq!(said(&state, &[]), Waiting::Unresponsive { capable: 1 });
    state.crawlers[0].condition = Condition::Draining;
    assert_eq!(said(&state, &[]), Waiting::Draining { capable: 1 });
    (state.held_max, state.held) = (Some(3), BTreeMap::from([(AccountKey(1), 3)]));
    assert_eq!(said(&state, &[]), Waiting::AccountShare { held: 3, limit: 3 });
    let host = gate(Gate::Host("https://a".to_owned()), None);
    let queue = gate(Gate::Queue, Some(2_000));
    state.gates = vec![host, queue.clone()];
    assert_eq!(said(&state, &[]), Waiting::GateClosed(Box::new(queue)));
}

#[test]
fn a_gate_bars_whom_it_names_until_its_time() {
    let credentials = |account_id: &str, host: &str| Gate::Credentials {
        account_id: account_id.to_owned(),
        host: host.to_owned(),
    };
    let bars = |gate: ClosedGate, account| gate.bars(AccountKey(account), "https://a", NOW);
    assert!(bars(gate(credentials("one", "https://a"), None), 1));
    assert!(!bars(gate(credentials("one", "https://a"), None), 2));
    assert!(!bars(gate(credentials("one", "https://b"), None), 1));
    assert!(!bars(gate(Gate::Queue, Some(1_000)), 1));
    assert!(bars(gate(Gate::Queue, Some(1_001)), 1));
    assert!(gate(Gate::Queue, Some(1_001)).bars_all(NOW) && !gate(Gate::Queue, Some(1_000)).bars_all(NOW));
    assert!(!gate(Gate::Host("https://a".to_owned()), None).bars_all(NOW));
}
