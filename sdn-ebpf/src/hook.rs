//! The hooks: for each, the ordered list of stages that a packet passes there. A stage never calls the next one.

pub mod host_out;
pub mod overlay_in;
pub mod pod_out;
pub mod uplink_in;
pub mod uplink_xdp;

use sdn_common::{Be16, NodeState, Reason};

use crate::{
    maps,
    verdict::{End, Stage},
};

/// EtherType of ARP.
pub const ARP: Be16 = Be16::new(0x0806);

/// The node's settings. The agent writes them before it attaches anything; without them nothing is forwarded.
#[inline(always)]
pub fn state() -> Stage<&'static NodeState> {
    maps::NODE_STATE.get(0).ok_or(End::drop(Reason::NotReady))
}
