//! What the programs count and report.

use crate::{Addr6, Author, Be16, Identity, plain};

/// Where in the kernel a program runs.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// TCX ingress of the host's end of a pod's veth: everything that the pod sends.
    PodOut = 1,
    /// TCX ingress of the VXLAN device.
    OverlayIn = 2,
    /// TCX egress of the VXLAN device: what the node itself sends to pods.
    HostOut = 3,
    /// TCX ingress of the uplink.
    UplinkIn = 4,
    /// XDP of the uplink: what `UplinkIn` would refuse by its addresses alone, before anything is allocated for it.
    UplinkXdp = 5,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 5] = [Self::PodOut, Self::OverlayIn, Self::HostOut, Self::UplinkIn, Self::UplinkXdp];

    /// The program in the object that runs there.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::PodOut => "pod_out",
            Self::OverlayIn => "overlay_in",
            Self::HostOut => "host_out",
            Self::UplinkIn => "uplink_in",
            Self::UplinkXdp => "uplink_xdp",
        }
    }
}

/// Direction of a packet as seen by the endpoint that a count belongs to.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Sent by it, or by the node.
    Egress = 1,
    /// Sent to it, or to the node.
    Ingress = 2,
}

/// What became of a packet that was not dropped. Map `FORWARDS`, per CPU, by `hook * FORWARD_KINDS + forward`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Not ours: left to the kernel as it was.
    Pass = 0,
    /// Into a pod of this node.
    Pod = 1,
    /// Into the tunnel.
    Tunnel = 2,
    /// To the node's own stack.
    Host = 3,
    /// To the outside, from the node's address.
    Outside = 4,
    /// Answered by the program itself: ARP, neighbour discovery, an ICMP error.
    Answer = 5,
}

/// Numbers of [`Forward`] per hook.
pub const FORWARD_KINDS: u32 = 6;
/// Entries of `FORWARDS`.
pub const FORWARDS_LEN: u32 = 6 * FORWARD_KINDS;

/// Packets and bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets; a GSO packet counts once.
    pub packets: u64,
    /// Bytes from the Ethernet header on.
    pub bytes: u64,
}

/// What a drop is counted under, exactly. Map `DROPS`, per CPU. Where that map is full, drops are counted under the reason
/// alone (`DROP_TOTALS`), and the difference between the two is what has no endpoint.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropKey {
    /// [`crate::Reason`].
    pub reason: u16,
    /// [`Direction`].
    pub direction: u8,
    /// [`Hook`].
    pub hook: u8,
    /// The endpoint's `ifindex`; 0 where the drop belongs to no pod of this node.
    pub endpoint: u32,
    /// The other end's identity.
    pub peer: Identity,
    /// Which rule decided, where one did.
    pub author: Author,
}

/// An example of a drop. Ring buffer `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// What it was counted under.
    pub key: DropKey,
    /// Source address; IPv4 in its mapped form. Zero where the packet was not parsed so far.
    pub source: Addr6,
    /// Destination address.
    pub destination: Addr6,
    /// Source port, 0 where there is none.
    pub source_port: Be16,
    /// Destination port, 0 where there is none.
    pub destination_port: Be16,
    /// Bytes from the Ethernet header on.
    pub len: u32,
    /// EtherType.
    pub ethertype: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub _pad: [u8; 5],
}

/// An endpoint's budget of events. Map `EVENT_BUDGETS`, by `ifindex`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventBudget {
    /// The present second, in seconds of `jiffies`.
    pub second: u64,
    /// Events in it so far.
    pub used: u64,
}

/// The kernel's clock beside a clock of the world, so that user space can read `jiffies`. Map `CLOCK`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// `jiffies`, 64 bits.
    pub jiffies: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub nanoseconds: u64,
}

/// A packet's state while a program looks at it. Map `SCRATCH`, per CPU, by [`Hook`]. Only the programs know what is in it.
pub type Scratch = [u64; 48];

/// Entries of `SCRATCH`: a [`Hook`]'s number is an index.
pub const SCRATCH_LEN: u32 = 6;

/// What a program decided, for tests. Map `LAST_VERDICT`; written only where the constant `RECORD` was set at load.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// [`crate::Reason`] of a drop, else 0.
    pub reason: u32,
    /// [`Forward`] of what was not dropped.
    pub forward: u32,
    /// Device that the packet was sent to; 0 for none.
    pub ifindex: u32,
    /// Index into `NODES` of where the tunnel leads; 0 for none.
    pub node: u32,
}

plain!(Counter = 16, DropKey = 16, Event = 64, EventBudget = 16, Clock = 16, Verdict = 16);
