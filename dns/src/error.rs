//! What can go wrong before the first query. What goes wrong with one query is its response code.

use std::io;

/// An operation of this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configured zone or a search domain is no name.
    #[error("cannot serve {name:?}: it is not a domain name (labels of 1 to 63 bytes, 253 in all)")]
    Name {
        /// As it was given.
        name: String,
    },
    /// A socket that was handed over cannot be used.
    #[error("cannot serve on the {transport} socket {address}: {source} (was it handed over open and bound?)")]
    Socket {
        /// UDP or TCP.
        transport: &'static str,
        /// Its address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start a thread of the resolver: {source} (is the limit of threads or memory reached?)")]
    Thread {
        /// Why not.
        source: io::Error,
    },
}
