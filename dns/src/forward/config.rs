//! How the forwarder behaves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::CacheConfig;

/// How the forwarder behaves.
#[derive(Clone, Debug)]
pub struct ForwardConfig {
    /// Who is asked for names that no zone below takes.
    pub upstreams: UpstreamSource,
    /// Names with upstreams of their own (stub domains). Of several that fit, the longest is taken.
    pub zones: Vec<ZoneUpstreams>,
    /// Which upstream is asked first.
    pub policy: Policy,
    /// How many exchanges in a row fail before an upstream is left alone until a probe succeeds; 0: it never is.
    pub max_fails: u32,
    /// Between a failed upstream's first two probes. Doubles with each that fails.
    pub probe_interval: Duration,
    /// The longest time between two probes.
    pub max_probe_interval: Duration,
    /// How long one upstream has to answer.
    pub timeout: Duration,
    /// How long all of them together have. Clients usually wait 5 s.
    pub deadline: Duration,
    /// The most questions that upstreams are asked at the same time: each takes a socket. One more is refused.
    pub max_concurrent: usize,
    /// Ask by TCP at once.
    pub force_tcp: bool,
    /// Randomise the case of letters in names, and accept replies with just that case only.
    pub random_case: bool,
    /// Ask the next upstream when one answers SERVFAIL or REFUSED, as resolver libraries do.
    pub failover: bool,
    /// When all upstreams are known to be down, fail at once rather than trying them all the same.
    pub fail_fast: bool,
    /// Ask each upstream for a name nobody has, and leave it alone if it asks that name here.
    pub detect_loops: bool,
    /// What is kept of the answers.
    pub cache: CacheConfig,
}

/// Where upstreams come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamSource {
    /// The nameserver lines of a resolv.conf(5), which is watched.
    ResolvConf(PathBuf),
    /// These.
    Fixed(Vec<SocketAddr>),
}

/// The upstreams of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneUpstreams {
    /// A domain name, with or without its last dot.
    pub zone: String,
    /// Who is asked for names in it.
    pub upstreams: Vec<SocketAddr>,
}

/// Which upstream is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The first in the order of the configuration that is not down.
    #[default]
    Sequential,
    /// Any.
    Random,
    /// Each in turn.
    RoundRobin,
}

impl ForwardConfig {
    /// The defaults, with these upstreams.
    pub fn new(upstreams: UpstreamSource) -> Self {
        Self {
            upstreams,
            zones: vec![],
            policy: Policy::default(),
            max_fails: 2,
            probe_interval: Duration::from_millis(500),
            max_probe_interval: Duration::from_secs(5),
            timeout: Duration::from_millis(1500),
            deadline: Duration::from_millis(4500),
            max_concurrent: 1000,
            force_tcp: false,
            random_case: false,
            failover: true,
            fail_fast: false,
            detect_loops: true,
            cache: CacheConfig::default(),
        }
    }
}
