//! The rows. Times are milliseconds since 1970, UTC; keys are given by the writer, except where history grows.

pub mod account;
pub mod account_area;
pub mod account_count;
pub mod area;
pub mod audit;
pub mod crawler_token;
pub mod credential;
pub mod error_report;
pub mod gate;
pub mod job;
pub mod job_checkpoint;
pub mod job_event;
pub mod job_history;
pub mod job_progress;
pub mod session;
pub mod tree_progress;
