//! Timeouts that cost nothing while all goes well.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

/// A moment by which something is to happen. It moves with every step of a request, so the runtime's timer, which has to
/// be taken out and put in again for each move, is left where it is as long as it is early enough: when it fires too
/// early, it is set to what the deadline is by then.
#[derive(Debug)]
pub struct Deadline {
    at: Instant,
    /// Armed at some moment not after `at`.
    sleep: Pin<Box<Sleep>>,
}

impl Deadline {
    /// In `after` from `now`.
    pub fn new(now: Instant, after: Duration) -> Self {
        let at = now + after;
        Self { at, sleep: Box::pin(sleep_until(at.into())) }
    }

    /// Moves it to `after` from `now`.
    #[inline]
    pub fn set(&mut self, now: Instant, after: Duration) {
        self.at = now + after;
        if self.at < self.sleep.deadline().into_std() {
            self.sleep.as_mut().reset(self.at.into());
        }
    }

    /// Ready once it has passed.
    #[inline]
    pub fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= self.at {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.at.into());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn fires_when_it_was_last_set_to() {
        let begin = Instant::now();
        let mut deadline = Deadline::new(begin, Duration::from_millis(20));
        // Later, twice: the timer fires early and is moved.
        deadline.set(begin, Duration::from_millis(40));
        deadline.set(begin, Duration::from_millis(60));
        poll_fn(|cx| deadline.poll_passed(cx)).await;
        let late = begin.elapsed();
        assert!(late >= Duration::from_millis(60) && late < Duration::from_secs(5), "after {late:?}");
        // Earlier than the timer was armed for.
        let begin = Instant::now();
        let mut deadline = Deadline::new(begin, Duration::from_secs(60));
        deadline.set(begin, Duration::from_millis(20));
        poll_fn(|cx| deadline.poll_passed(cx)).await;
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
