//! The contract between the eBPF programs and user space.
//!
//! A struct that both sides share is written here and nowhere else: `repr(C)`, explicit padding, its size asserted beside it.
//! What travels between nodes ([`wire`]), what a drop is called ([`reason`]) and which maps there are ([`maps`]) is here as well.
//! The crate is `no_std` and has no unsafe code but `impl aya::Pod`, which promises that a type is plain bytes without padding.
//!
//! Wire order and host order are different types: [`Be16`], [`Addr4`] and [`Addr6`] hold bytes as they stand in a packet.
#![no_std]

pub mod addr;
pub mod endpoint;
pub mod event;
pub mod flow;
pub mod fragment;
pub mod maps;
pub mod masquerade;
pub mod node;
pub mod policy;
pub mod reason;
pub mod wire;

pub use addr::{Addr4, Addr6, Address, Be16, Mac, Prefix};
pub use endpoint::{Endpoint, Identity, Peer, incarnation};
pub use event::{Counter, Direction, DropKey, Event, Forward, Hook};
pub use flow::{Flow, FlowKey, Side, Way};
pub use fragment::{Fragment, FragmentKey};
pub use masquerade::{Masquerade, MasqueradeKey};
pub use node::{FamilyState, Node, NodeState};
pub use policy::{Author, AuthorName, Rule, RuleKey, SetId, SetRef};
pub use reason::Reason;

/// Marks plain-byte types for aya. The macro keeps the only unsafe code of this crate in one place.
macro_rules! plain {
    ($($t:ty = $size:expr),+ $(,)?) => {$(
        const _: () = assert!(core::mem::size_of::<$t>() == $size, concat!("size of ", stringify!($t)));
        // SAFETY: repr(C) or repr(transparent), Copy, every bit pattern is valid, and the size asserted above is the sum of
        // the fields, so there is no padding to leak.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $t {}
    )+};
}
pub(crate) use plain;
