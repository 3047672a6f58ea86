//! Simulated web apps: each submits a job, waits until it has ended, and submits the next.

use std::sync::mpsc::RecvTimeoutError;

use super::run::Run;
use crate::client::server::{Server, Trouble, job_path};
use crate::client::view::text;

/// Submits until the run is over.
pub(super) fn work(server: &Server, run: &Run) -> Result<(), Trouble> {
    while !run.is_stopped() {
        let (number, job, ended) = run.submit();
        let submitted = server.post("/api/v1/jobs", &job).inspect_err(|_| {
            run.give_up(&number);
            run.fail();
        })?;
        if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(run.patience) {
            run.give_up(&number);
            run.fail();
            return Err(why(server, text(&submitted, "id"), run));
        }
    }
    Ok(())
}

/// What keeps a job from its end.
fn why(server: &Server, id: &str, run: &Run) -> Trouble {
    let explained = server.get(&format!("{}/explain", job_path(id))).unwrap_or_default();
    let reason = match explained["reason"]["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => format!("it is {}", text(&explained, "state")),
    };
    Trouble::Failed(format!(
        "a job has not ended within {} s. {}",
        run.patience.as_secs(),
        crate::client::text::shown(&reason)
    ))
}
