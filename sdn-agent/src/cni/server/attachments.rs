//! One operation at a time for each attachment, in the order of arrival; a DEL cancels the ADDs before it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, watch};

use sdn_cni::Attachment;

#[derive(Debug, Default)]
pub(super) struct Attachments(Arc<Mutex<HashMap<Attachment, Entry>>>);

#[derive(Debug)]
struct Entry {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Counts the DELs that came.
    cancelled: watch::Sender<u64>,
    visitors: usize,
}

/// An operation on an attachment, waiting for its turn or having it.
#[derive(Debug)]
pub(super) struct Visit {
    attachments: Attachments,
    attachment: Attachment,
    turn: Arc<tokio::sync::Mutex<()>>,
    held: Option<OwnedMutexGuard<()>>,
    cancelled: watch::Receiver<u64>,
}

// === impl Attachments ===

impl Attachments {
    /// Announces an operation. Its turn comes with [`Visit::turn`].
    pub fn visit(&self, attachment: &Attachment) -> Visit {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(attachment.clone()).or_insert_with(|| Entry {
            turn: Arc::default(),
            cancelled: watch::Sender::new(0),
            visitors: 0,
        });
        entry.visitors += 1;
        Visit {
            attachments: Self(self.0.clone()),
            attachment: attachment.clone(),
            turn: entry.turn.clone(),
            held: None,
            cancelled: entry.cancelled.subscribe(),
        }
    }

    /// Cancels the ADDs that have been announced so far.
    pub fn cancel_adds(&self, attachment: &Attachment) {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(attachment) {
            entry.cancelled.send_modify(|count| *count += 1);
        }
    }
}

// === impl Visit ===

impl Visit {
    /// Waits until earlier operations on the attachment are over.
    pub async fn turn(&mut self) {
        self.held = Some(self.turn.clone().lock_owned().await);
    }

    /// Takes the turn if nobody has it.
    pub fn try_turn(&mut self) -> bool {
        self.held = self.turn.clone().try_lock_owned().ok();
        self.held.is_some()
    }

    /// A handle for [`cancelled`](Cancellation::cancelled), apart from the visit.
    pub fn cancellation(&self) -> Cancellation {
        Cancellation(self.cancelled.clone())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.held = None;
        let mut entries = self.attachments.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&self.attachment) {
            entry.visitors -= 1;
            if entry.visitors == 0 {
                entries.remove(&self.attachment);
            }
        }
    }
}

/// Whether a DEL has come since the visit was announced.
#[derive(Debug)]
pub(super) struct Cancellation(watch::Receiver<u64>);

// === impl Cancellation ===

impl Cancellation {
    /// Has a DEL come?
    pub fn is_cancelled(&self) -> bool {
        self.0.has_changed().unwrap_or(false)
    }

    /// Returns when a DEL comes.
    pub async fn cancelled(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}
