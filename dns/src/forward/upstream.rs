//! One upstream, and whether it is worth asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::config::ForwardConfig;
use super::exchange::{ExchangeError, Manner, exchange};
use super::metrics::{ForwardMetrics, UpstreamMetrics};
use super::query::Request;
use super::wire::{CLASS_IN, rtype};
use crate::cache::{Content, KeyBits};

/// An upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    /// Exchanges in a row that failed.
    failures: AtomicU32,
    /// Left alone until a probe succeeds.
    down: AtomicBool,
    /// It asks us what we ask it.
    looping: AtomicBool,
    metrics: UpstreamMetrics,
    rules: Rules,
}

/// What of the configuration is about a single upstream.
#[derive(Clone, Copy, Debug)]
struct Rules {
    max_fails: u32,
    timeout: Duration,
    probe_interval: Duration,
    max_probe_interval: Duration,
    force_tcp: bool,
    random_case: bool,
}

impl Upstream {
    pub(crate) fn new(address: SocketAddr, config: &ForwardConfig, metrics: &ForwardMetrics) -> Self {
        let rules = Rules {
            max_fails: config.max_fails,
            timeout: config.timeout,
            probe_interval: config.probe_interval,
            max_probe_interval: config.max_probe_interval,
            force_tcp: config.force_tcp,
            random_case: config.random_case,
        };
        Self {
            address,
            failures: AtomicU32::new(0),
            down: AtomicBool::new(false),
            looping: AtomicBool::new(false),
            metrics: metrics.of(address),
            rules,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(crate) fn is_looping(&self) -> bool {
        self.looping.load(Ordering::Relaxed)
    }

    /// Returns whether that is news.
    pub(crate) fn set_looping(&self, looping: bool) -> bool {
        self.looping.swap(looping, Ordering::Relaxed) != looping
    }

    /// Asks it, for at most `left`, and draws conclusions about its health.
    pub(crate) async fn ask(self: &Arc<Self>, request: &Request, left: Duration) -> Result<Content, ExchangeError> {
        let began = Instant::now();
        let result = exchange(self.address, request, self.manner(left)).await;
        match &result {
            Ok(content) => {
                self.metrics.answered(content.rcode, began.elapsed());
                self.failures.store(0, Ordering::Relaxed);
            }
            Err(error) => {
                self.metrics.unanswered();
                tracing::debug!(upstream = %self.address, %error, "asking an upstream");
                // Less than its time is not a fair trial.
                if error.is_failure() && !(matches!(error, ExchangeError::Timeout(_)) && left < self.rules.timeout) {
                    self.count_failure();
                }
            }
        }
        result
    }

    fn manner(&self, left: Duration) -> Manner {
        let Rules { timeout, force_tcp, random_case, .. } = self.rules;
        Manner { time: timeout.min(left), force_tcp, random_case }
    }

    fn count_failure(self: &Arc<Self>) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if self.rules.max_fails == 0 || failures < self.rules.max_fails || self.down.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(upstream = %self.address, failures, "an upstream does not answer: it is left alone until it does");
        let weak = Arc::downgrade(self);
        let Rules { mut probe_interval, max_probe_interval, .. } = self.rules;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(with_jitter(probe_interval)).await;
                let Some(upstream) = weak.upgrade() else { return };
                if upstream.probe().await {
                    return;
                }
                probe_interval = (probe_interval * 2).min(max_probe_interval);
            }
        });
    }

    /// Whether it answers, whatever it says.
    async fn probe(&self) -> bool {
        let bits = KeyBits { dnssec_ok: false, checking_disabled: false, recursion_desired: true };
        let request = Request { name: [0].into(), rtype: rtype::NS, class: CLASS_IN, bits };
        let result = exchange(self.address, &request, self.manner(self.rules.timeout)).await;
        if result.as_ref().is_err_and(|error| !matches!(error, ExchangeError::Reply(_) | ExchangeError::Truncated)) {
            self.metrics.failed_probe();
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        self.down.store(false, Ordering::Relaxed);
        tracing::info!(upstream = %self.address, "an upstream answers again");
        true
    }
}

/// Up to a tenth more, so that nodes that lost an upstream together do not probe it together.
fn with_jitter(time: Duration) -> Duration {
    time.mul_f64(1.0 + rand::rng().random_range(0.0..0.1))
}
