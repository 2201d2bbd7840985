//! Health checks: endpoints are connected to every few seconds; after three failures in a row one is left out, after two
//! successes it is back (reference: `check inter 5s`, rise 2, fall 3). Only for routes that have another endpoint to go to.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::dial;
use crate::{
    server::Core,
    table::{Backend, Endpoint, EndpointState},
};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(250);

/// Checks all endpoints of all tables, for as long as the core runs: one core does it for all.
pub async fn check(core: Rc<Core>) {
    // By the address of the endpoint's counters, which are a route's own: two routes may see one pod differently.
    let mut due: HashMap<usize, Instant> = HashMap::new();
    let mut checked: Vec<Arc<EndpointState>> = Vec::new();
    loop {
        tokio::time::sleep(TICK).await;
        let (now, table) = (Instant::now(), core.table().clone());
        let backends: Vec<&Arc<Backend>> = table.backends().filter(|backend| backend.checks_health()).collect();
        let mut next = HashMap::with_capacity(due.len());
        let mut states = Vec::with_capacity(checked.len());
        for backend in backends {
            for endpoint in &backend.endpoints {
                states.push(endpoint.state.clone());
                let interval = backend.config.check_interval;
                // Spread over the interval at first, so that not all are asked at once.
                let first = || now + interval.mul_f64((core.random() % 1000) as f64 / 1000.0);
                let id = Arc::as_ptr(&endpoint.state).addr();
                let at = due.get(&id).copied().unwrap_or_else(first);
                next.insert(id, if at <= now { now + interval } else { at });
                if at <= now {
                    ask(&core, backend, endpoint, table.settings.check_timeout);
                }
            }
        }
        trust_the_unchecked(&checked, &states);
        (due, checked) = (next, states);
    }
}

/// An endpoint that is not checked any more counts as healthy.
fn trust_the_unchecked(before: &[Arc<EndpointState>], now: &[Arc<EndpointState>]) {
    for state in before.iter().filter(|state| state.is_down()) {
        if !now.iter().any(|other| Arc::ptr_eq(state, other)) {
            state.trust();
        }
    }
}

fn ask(core: &Rc<Core>, backend: &Backend, endpoint: &Endpoint, patience: Duration) {
    let (core, route, address) = (core.clone(), backend.id.clone(), endpoint.address);
    let state = endpoint.state.clone();
    tokio::task::spawn_local(async move {
        let result = timeout(patience, dial(&core, address)).await;
        let succeeded = matches!(result, Ok(Ok(_)));
        if state.check(succeeded) {
            tracing::info!(%route, endpoint = %address, up = succeeded, "a health check changed its mind");
        }
    });
}
