//! What the role still waits for. Ready is when nothing is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// The list of what is waited for, shared by those who wait. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<BTreeMap<&'static str, String>>>);

impl Readiness {
    /// Not ready because of each of these, until [`Self::reached`].
    pub fn waiting_for(stages: &[&'static str]) -> Self {
        let waiting = stages.iter().map(|stage| (*stage, "not reached yet".to_owned())).collect();
        Self(Arc::new(watch::Sender::new(waiting)))
    }

    /// A stage is not reached, or not any more, and why. Logged when the reason is a new one.
    pub fn blocked(&self, stage: &'static str, why: impl Into<String>) {
        let why = why.into();
        self.0.send_if_modified(|waiting| {
            match waiting.insert(stage, why.clone()) {
                Some(before) if before == why => return false,
                Some(_) => tracing::info!(stage, why, "waiting"),
                None => tracing::warn!(stage, why, "not ready any more"),
            }
            true
        });
    }

    /// A stage is reached.
    pub fn reached(&self, stage: &'static str) {
        self.0.send_if_modified(|waiting| {
            let was_waiting = waiting.remove(stage).is_some();
            if was_waiting {
                tracing::debug!(stage, "reached");
            }
            was_waiting
        });
    }

    /// A stage is as a check found it.
    pub fn set(&self, stage: &'static str, blocked: Option<String>) {
        match blocked {
            Some(why) => self.blocked(stage, why),
            None => self.reached(stage),
        }
    }

    /// Stages that are waited for, and why. Empty means ready.
    pub fn waiting(&self) -> BTreeMap<&'static str, String> {
        self.0.borrow().clone()
    }

    /// For those who want to hear of changes.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<&'static str, String>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_nothing_is_left() {
        let readiness = Readiness::waiting_for(&["node", "uplink"]);
        let mut changes = readiness.subscribe();
        readiness.reached("node");
        readiness.blocked("uplink", "no default route");
        assert_eq!(readiness.waiting(), BTreeMap::from([("uplink", "no default route".to_owned())]));
        changes.mark_unchanged();
        readiness.blocked("uplink", "no default route");
        assert!(!changes.has_changed().unwrap(), "the same reason is no news");
        readiness.set("uplink", None);
        assert!(readiness.waiting().is_empty() && changes.has_changed().unwrap());
        readiness.set("uplink", Some("gone".to_owned()));
        assert_eq!(readiness.waiting().len(), 1, "ready can be lost again");
    }
}
