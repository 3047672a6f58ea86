//! The jobs a client is given, one after the other.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;

use super::job::Job;
use super::shared::User;
use super::state::Next;

/// Jobs to work on, as many at a time as there are slots. Taking one tells the server that it has started.
///
/// Also a [`Stream`]. It ends when the client does, and when it is shut down; `Client::closed` says why. Dropping it
/// gives back what nobody has taken, and asks for no more.
#[derive(Debug)]
pub struct Jobs {
    user: User,
}

impl Jobs {
    pub(super) fn new(user: User) -> Self {
        Self { user }
    }

    /// The next job, or `None` at the end.
    ///
    /// It waits while as many jobs are in your hands as there are slots. Cancel safe.
    pub async fn next(&mut self) -> Option<Job> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Job>> {
        let next = self.user.state().take(context.waker());
        match next {
            Next::Job(taken) => {
                self.user.changed();
                Poll::Ready(Some(Job::new(self.user.clone_shared(), taken)))
            }
            Next::Wait => Poll::Pending,
            Next::End => Poll::Ready(None),
        }
    }
}

impl Stream for Jobs {
    type Item = Job;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Job>> {
        self.poll(context)
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.user.state().set_slots(0);
        self.user.changed();
    }
}
