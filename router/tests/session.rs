//! The session dialect, over the store in memory: greetings, numbers, wishes, manners.

mod support;

#[path = "session/chance.rs"]
mod chance;
#[path = "session/client.rs"]
mod client;
#[path = "session/greeting.rs"]
mod greeting;
#[path = "session/limits.rs"]
mod limits;
#[path = "session/manners.rs"]
mod manners;
#[path = "session/numbering.rs"]
mod numbering;
#[path = "session/tokens.rs"]
mod tokens;
#[path = "session/watches.rs"]
mod watches;
#[path = "session/wishes.rs"]
mod wishes;
