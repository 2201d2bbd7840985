//! The role's own tasks. They end with what they follow, or with the role; one that panics takes the role along, because half a
//! role would look alive.

use std::sync::Arc;

use tokio::sync::watch;

/// Starts tasks, and hears when one of them panics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks(Arc<watch::Sender<bool>>);

/// Tells of a panic by being dropped in it.
struct Alarm(Tasks);

// === impl Tasks ===

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Starts a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let alarm = Alarm(self.clone());
        tokio::spawn(async move {
            task.await;
            drop(alarm);
        });
    }

    /// Waits until a task has panicked.
    pub async fn failed(&self) {
        // The sender is ours: the channel does not end before this value.
        let _ = self.0.subscribe().wait_for(|failed| *failed).await;
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_heard_of_and_an_end_is_not() {
        let tasks = Tasks::new();
        tasks.spawn(async {});
        tasks.spawn(std::future::pending());
        tokio::time::timeout(Duration::from_millis(20), tasks.failed()).await.expect_err("nothing has failed");
        tasks.spawn(async { panic!("as the test wants it") });
        tokio::time::timeout(Duration::from_secs(10), tasks.failed()).await.expect("it is heard of");
    }
}
