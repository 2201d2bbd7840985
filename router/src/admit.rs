//! What is decided about a request before anybody asks whose it is.

use crate::session::{Answer, Client, End, Exchange, Stop};

/// A path that any host answers, for load balancers that ask whether the router is there.
const HEALTH: &str = "/_______internal_router_healthz";

/// Lets a request pass, or answers it.
#[inline]
pub fn request(client: &Client, exchange: &Exchange) -> Result<(), Stop> {
    let is_plain = client.connection.tls.is_none();
    if is_plain && exchange.request.path(&exchange.head) == HEALTH {
        return Err(Answer::new(200, End::Rule).into());
    }
    Ok(())
}
