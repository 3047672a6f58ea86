//! The real binary from outside: sockets, HTTP, signals, and what is left after a crash.

mod scenarios;
mod support;
