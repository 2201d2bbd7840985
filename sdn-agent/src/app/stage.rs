//! The stages of a node role's start that its readiness names.

/// This machine: kernel, pins, writer lock.
pub const MACHINE: &str = "machine";
/// The node's own object, with its host subnets.
pub const NODE: &str = "node object";
/// The uplink.
pub const UPLINK: &str = "uplink";
/// The cluster networks, apart from the uplink's.
pub const NETWORKS: &str = "cluster networks";
/// culvert0.
pub const OVERLAY: &str = "overlay device";
/// Programs loaded, attached and with their settings.
pub const DATAPLANE: &str = "dataplane";
/// The CNI plugin is where the runtime looks for it.
pub const INSTALL: &str = "CNI installation";

/// All that a node waits for.
pub const ALL: [&str; 7] = [MACHINE, NODE, UPLINK, NETWORKS, OVERLAY, DATAPLANE, INSTALL];
