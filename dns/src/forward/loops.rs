//! Loops: an upstream that forwards to us. CoreDNS ends its process; a node has other work to do, so the upstream is left alone.
//!
//! Each upstream is asked for a name that nobody could know. Whoever asks us for that name has it from there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rand::RngExt as _;

use super::query::Request;
use super::upstream::Upstream;
use super::wire::{CLASS_IN, MAX_NAME, rtype};
use crate::cache::KeyBits;

/// An upstream that loops is tried again after this.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// The time between tries doubles up to this.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How long a try waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Names that were asked for, and of whom.
#[derive(Debug, Default)]
pub(crate) struct Loops {
    probes: Mutex<HashMap<Box<[u8]>, Asked>>,
}

#[derive(Debug)]
struct Asked {
    upstream: Weak<Upstream>,
    /// The name came back.
    seen: bool,
}

/// A name, for as long as it is known.
struct Probe<'a> {
    loops: &'a Loops,
    name: Box<[u8]>,
}

impl Loops {
    /// Asks an upstream, until it has answered without asking us. Ends when the upstream is no longer used.
    pub(crate) async fn watch(self: Arc<Self>, upstream: Weak<Upstream>, zone: Box<[u8]>) {
        let mut pause = FIRST_RETRY;
        while let Some(upstream) = upstream.upgrade() {
            let probe = self.begin(&upstream, &zone);
            let answered = upstream.ask(&probe.request(), PATIENCE).await.is_ok();
            if !probe.was_seen() {
                if upstream.set_looping(false) {
                    tracing::info!(upstream = %upstream.address(), "an upstream no longer forwards to this resolver");
                }
                if answered {
                    return;
                }
            }
            drop(upstream);
            // The name is known until the next: a slow loop must be noticed, and must end here.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
    }

    /// Whether a question is one of ours that came back. The upstream that it went to is then looping.
    pub(crate) fn caught(&self, name: &[u8], question_type: u16) -> bool {
        if question_type != rtype::HINFO {
            return false;
        }
        let upstream = match self.lock().get_mut(&*name.to_ascii_lowercase()) {
            None => return false,
            Some(asked) => {
                asked.seen = true;
                asked.upstream.upgrade()
            }
        };
        if let Some(upstream) = upstream.filter(|upstream| upstream.set_looping(true)) {
            let address = upstream.address();
            tracing::error!(upstream = %address, "an upstream forwards to this resolver: it is left alone");
        }
        true
    }

    fn begin(&self, upstream: &Arc<Upstream>, zone: &[u8]) -> Probe<'_> {
        let name = random_name(zone);
        self.lock().insert(name.clone(), Asked { upstream: Arc::downgrade(upstream), seen: false });
        Probe { loops: self, name }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Asked>> {
        // Whoever panicked with it has left the map whole.
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Probe ===

impl Probe<'_> {
    fn request(&self) -> Request {
        let bits = KeyBits { dnssec_ok: false, checking_disabled: false, recursion_desired: true };
        Request { name: self.name.clone(), rtype: rtype::HINFO, class: CLASS_IN, bits }
    }

    fn was_seen(&self) -> bool {
        self.loops.lock().get(&self.name).is_some_and(|asked| asked.seen)
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.loops.lock().remove(&self.name);
    }
}

/// Two labels of digits in a zone, as CoreDNS's plugin loop makes them: 126 bits. One where a long zone leaves no room.
fn random_name(zone: &[u8]) -> Box<[u8]> {
    let mut name = vec![];
    for _ in 0..2 {
        let label = format!("{}", rand::rng().random::<u64>() >> 1);
        if name.len() + 1 + label.len() + zone.len() <= MAX_NAME {
            name.push(label.len() as u8);
            name.extend(label.bytes());
        }
    }
    name.extend(zone);
    name.into()
}
