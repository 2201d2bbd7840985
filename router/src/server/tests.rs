//! The router as a whole, over loopback: raw clients and pods on each side of it.

mod http1;
mod http2;
mod stats;
mod tls;
mod world;
