//! What tests of the whole server stand on: the real binary in a directory of its own, its API, and crawlers.

pub(crate) mod api;
pub(crate) mod crawler;
pub(crate) mod history;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod stream;

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::api::Api;
pub(crate) use self::crawler::Crawler;
pub(crate) use self::server::{Setup, TestServer};
pub(crate) use self::session::SessionCrawler;
pub(crate) use self::stream::LiveStream;

/// Nothing takes this long unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Looks again and again until there is something to see. Only for what announces itself nowhere.
#[track_caller]
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "waited in vain until {what}");
        pause(Duration::from_millis(5));
    }
}

/// Lets time pass where time itself is what the test is about.
#[expect(clippy::disallowed_methods, reason = "a thread of a test, not of a runtime")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Runs scenarios on each database; each takes a fresh one.
macro_rules! on_both_databases {
    ($($scenario:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $scenario() {
                super::$scenario(crawlwire_persistence::testing::TestDatabase::sqlite());
            })*
        }
        mod postgres {
            $(#[test]
            fn $scenario() {
                if let Some(database) = crate::support::server::postgres() {
                    super::$scenario(database);
                }
            })*
        }
    };
}
pub(crate) use on_both_databases;
