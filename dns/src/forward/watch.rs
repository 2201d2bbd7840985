//! Who the upstreams are: read at the start, and again whenever the node's resolv.conf says something else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::config::UpstreamSource;
use super::resolv_conf::ResolvConf;
use super::upstream::Upstream;
use super::zones::Zones;
use super::{ForwardError, Inner};

/// Between two looks at the file. It is replaced, mounted over and linked to in too many ways to wait for an event.
const PAUSE: Duration = Duration::from_secs(2);

/// Reads the upstreams, and keeps watching if they may change.
pub(super) fn start(inner: &Arc<Inner>) -> Result<(), ForwardError> {
    match &inner.config.upstreams {
        UpstreamSource::Fixed(addresses) => apply(inner, addresses),
        UpstreamSource::ResolvConf(path) => {
            let known = read(path).unwrap_or_default();
            if known.nameservers.is_empty() {
                tracing::warn!(path = %path.display(), "no upstreams: the file has no nameserver, or cannot be read");
            }
            inner.search.store(Arc::new(known.search.clone()));
            apply(inner, &known.nameservers)?;
            inner.runtime.spawn(follow(Arc::downgrade(inner), path.clone(), known, PAUSE));
            Ok(())
        }
    }
}

async fn follow(inner: std::sync::Weak<Inner>, path: PathBuf, mut known: ResolvConf, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = inner.upgrade() else { return };
        // A file that is being written, or is gone, is no reason to forget who answered a moment ago.
        let Some(found) = read(&path).filter(|found| *found != known && !found.nameservers.is_empty()) else {
            continue;
        };
        tracing::info!(path = %path.display(), upstreams = ?found.nameservers, "other upstreams");
        inner.search.store(Arc::new(found.search.clone()));
        if let Err(error) = apply(&inner, &found.nameservers) {
            tracing::error!(%error, "taking over upstreams");
        }
        known = found;
    }
}

fn read(path: &Path) -> Option<ResolvConf> {
    // Some hundred bytes every few seconds: not worth a thread.
    std::fs::read_to_string(path).ok().map(|text| ResolvConf::parse(&text))
}

/// Upstreams that stay keep what is known of their health. New ones are tried for loops.
pub(super) fn apply(inner: &Arc<Inner>, root: &[SocketAddr]) -> Result<(), ForwardError> {
    let before = inner.zones.load_full();
    let mut made: Vec<Arc<Upstream>> = vec![];
    let make = |address: SocketAddr| {
        let known = before.upstream(address).or_else(|| made.iter().find(|upstream| upstream.address() == address));
        known.cloned().unwrap_or_else(|| {
            let upstream = Arc::new(Upstream::new(address, &inner.config, &inner.metrics));
            made.push(upstream.clone());
            upstream
        })
    };
    let zones = Zones::new(root, &inner.config.zones, inner.config.policy, make)?;
    for pool in zones.pools().filter(|_| inner.config.detect_loops) {
        for upstream in pool.upstreams().iter().filter(|upstream| made.iter().any(|new| Arc::ptr_eq(new, upstream))) {
            inner.runtime.spawn(inner.loops.clone().watch(Arc::downgrade(upstream), pool.zone().into()));
        }
    }
    inner.zones.store(Arc::new(zones));
    Ok(())
}
