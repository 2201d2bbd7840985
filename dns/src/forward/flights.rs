//! Questions that are being asked: a second client with the same question waits for the same answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Failure;
use crate::cache::{Entry, Key};

/// What comes of a question.
pub(crate) type Outcome = Result<Arc<Entry>, Failure>;

/// Waits for it; `None` until it is there.
pub(crate) type Waiter = watch::Receiver<Option<Outcome>>;

/// By question.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    waiters: Mutex<HashMap<Box<[u8]>, Waiter>>,
}

/// Somebody's duty to ask. When it is dropped, the question can be asked anew.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    key: Box<[u8]>,
    sender: watch::Sender<Option<Outcome>>,
}

impl Flights {
    /// A place to wait; with the duty to ask for the first who comes.
    pub(crate) fn join(self: &Arc<Self>, key: &Key) -> (Waiter, Option<Flight>) {
        let mut waiters = self.lock();
        if let Some(waiter) = waiters.get(key.as_bytes()) {
            return (waiter.clone(), None);
        }
        let (sender, waiter) = watch::channel(None);
        waiters.insert(key.as_bytes().into(), waiter.clone());
        (waiter, Some(Flight { flights: self.clone(), key: key.as_bytes().into(), sender }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Waiter>> {
        // Whoever panicked with it has left the map whole.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}

impl Flight {
    /// Tells everyone.
    pub(crate) fn land(self, outcome: Outcome) {
        self.sender.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

/// The outcome, when it is there.
pub(crate) async fn wait(mut waiter: Waiter) -> Outcome {
    match waiter.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().expect("that is what was waited for"),
        // The task that asked was torn down with its runtime, or panicked.
        Err(_) => Err(Failure::Ended),
    }
}
