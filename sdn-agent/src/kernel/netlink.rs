//! rtnetlink, one request a method, named as `ip` says it.

mod uplink;

pub use uplink::Uplink;
