//! The commands that talk to a running server: what they say, where, and how they end.

#[path = "client/acts.rs"]
mod acts;
#[path = "client/benches.rs"]
mod benches;
#[path = "client/console.rs"]
mod console;
#[path = "client/doctors.rs"]
mod doctors;
#[path = "client/looks.rs"]
mod looks;
#[path = "client/many.rs"]
mod many;
#[path = "client/shells.rs"]
mod shells;
#[expect(dead_code, reason = "what other programs of tests use, too")]
mod support;
#[path = "client/terminals.rs"]
mod terminals;
#[path = "client/watches.rs"]
mod watches;
