//! The router: what comes from outside for Routes and Ingresses, brought to pods.
//!
//! A request's journey, in the order in which the modules below do their part:
//!
//! ```text
//! listen → sni → tls → session → admit → route → balance → connect → forward → respond → log
//! ```
//!
//! - **listen** takes connections on the sockets that were handed over, and PROXY protocol from a load balancer before.
//! - **sni** reads the ClientHello of a TLS connection and asks the table by its name: a passthrough host's bytes go to
//!   a pod as they are, all others are terminated here.
//! - **tls** terminates, with the certificate of the route that the name belongs to.
//! - **session** speaks HTTP/1 or HTTP/2 on the connection and makes requests of its bytes, or refuses them.
//! - **admit** lets a request pass, or answers it whoever's it is.
//! - **route** finds the backend of its host and path in the table, and holds the client to what that demands: allow-lists,
//!   rate limits, https, client certificates.
//! - **balance** chooses an endpoint: by weight, load, the client's address, or the cookie that it was given.
//! - **connect** takes a connection to the pod from the pool, or makes one, or tries another endpoint.
//! - **forward** sends the request with what is to be set in its headers, and the body as it comes.
//! - **respond** brings back the answer likewise.
//! - **log** counts and writes what happened, once a request, whatever way it ended.
//!
//! What a request is judged by is the `table`: immutable, made from the cluster's snapshot and swapped as a whole. A
//! request takes it once, at its start, and keeps it to its end. A change of a Route is a new table that shares with the
//! last one all that did not change; nothing is reloaded.
//!
//! Tables come to be in their own order: Routes, and the Routes that Ingresses amount to, pass `admission` (who owns a
//! host, what is valid, what an operator allows), and what is admitted becomes a backend with a typed configuration
//! (`config`). What admission found is written to the objects' status.

#![forbid(unsafe_code)]

pub mod admission;
pub mod admit;
pub mod balance;
pub mod config;
pub mod connect;
pub mod cookie;
pub mod forward;
pub mod headers;
pub mod http1;
pub mod http2;
pub mod journey;
pub mod listen;
pub mod log;
pub mod proxy_protocol;
pub mod respond;
pub mod route;
pub mod server;
pub mod session;
pub mod sni;
pub mod stats;
pub mod status;
pub mod table;
pub mod tls;
