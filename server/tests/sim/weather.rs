//! What befalls the network and its hosts, from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use turmoil::Sim;

use crate::chance::Chance;
use crate::world::{CRAWLERS, SERVER, crawler_name};

/// After this nothing new goes wrong.
const CALM_AFTER: Duration = Duration::from_secs(12);

/// Something goes wrong about this often, in milliseconds.
const EVERY_MS: u64 = 500;

/// What puts it right again.
#[derive(Debug)]
enum Repair {
    Link(String),
    Release(String),
    Start(String),
}

pub(crate) struct Weather {
    chance: Chance,
    next: Duration,
    repairs: BTreeMap<Duration, Vec<Repair>>,
    /// Everything that went wrong, in order.
    pub(crate) journal: Vec<String>,
}

impl Weather {
    pub(crate) fn new(mut chance: Chance) -> Self {
        Self {
            next: chance.millis(0..EVERY_MS),
            chance,
            repairs: BTreeMap::new(),
            journal: Vec::new(),
        }
    }

    /// What is due by now.
    pub(crate) fn step(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        while let Some(due) = self.repairs.first_entry().filter(|due| *due.key() <= now) {
            for repair in due.remove() {
                self.journal.push(format!("{now:?} {repair:?}"));
                match repair {
                    Repair::Link(crawler) => sim.repair(crawler, SERVER),
                    Repair::Release(crawler) => sim.release(crawler, SERVER),
                    Repair::Start(host) => sim.bounce(host),
                }
            }
        }
        if now >= self.next && now < CALM_AFTER {
            self.next = now + self.chance.millis(1..2 * EVERY_MS);
            self.strike(sim, now);
        }
    }

    fn strike(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let crawler = crawler_name(self.chance.below(CRAWLERS));
        // Mostly shorter than a lease, now and then longer.
        let most = if self.chance.one_in(6) { 5_000 } else { 1_200 };
        let until = now + self.chance.millis(20..most);
        let (what, repair) = match self.chance.below(8) {
            0 => {
                sim.partition(crawler.as_str(), SERVER);
                ("partition", Repair::Link(crawler))
            }
            1 => {
                sim.partition_oneway(crawler.as_str(), SERVER);
                ("deaf server", Repair::Link(crawler))
            }
            2 => {
                sim.partition_oneway(SERVER, crawler.as_str());
                ("deaf crawler", Repair::Link(crawler))
            }
            3 | 4 => {
                sim.hold(crawler.as_str(), SERVER);
                ("hold", Repair::Release(crawler))
            }
            5 => {
                if !sim.is_host_running(SERVER) {
                    return;
                }
                sim.crash(SERVER);
                ("crash", Repair::Start(SERVER.to_owned()))
            }
            _ => {
                if !sim.is_host_running(crawler.as_str()) {
                    return;
                }
                sim.crash(crawler.as_str());
                ("crash", Repair::Start(crawler))
            }
        };
        self.journal.push(format!("{now:?} {what}, until {until:?} {repair:?}"));
        self.repairs.entry(until).or_default().push(repair);
    }
}
