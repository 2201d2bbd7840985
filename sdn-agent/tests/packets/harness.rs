//! What the tables are run on. [`row`] is what they are written with, [`world`] who appears in them.

pub mod bench;
pub mod checksum;
pub mod fill;
pub mod maps;
pub mod packet;
pub mod row;
pub mod sandbox;
pub mod world;

pub use bench::{At, Bench, Setup, Tunnel};
pub use fill::Table;
pub use packet::*;
pub use row::{Row, run};
pub use world::{Actor, Cast, Family, MTU, PORT, tunnel, underlay, v6};
