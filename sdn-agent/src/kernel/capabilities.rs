//! Capabilities: what the agent keeps, each with its reason, and everything else given up for good.
//!
//! The keeper gives up first: what it does not keep, no role that it starts can ever have. The role does it again after its
//! start, for the case that somebody starts it otherwise. Both also set no_new_privs, so that no file on the way back in can
//! lend them anything.

use std::collections::HashSet;
use std::fmt;

use caps::{CapSet, Capability};
use nix::sys::prctl;
use serde::{Deserialize, Serialize};

/// A capability that the agent keeps, and why.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Which one.
    pub capability: Capability,
    /// What fails without it.
    pub reason: &'static str,
}

/// What keeper and node role keep. Tried one by one on Linux 6.18: without any of them the role does not start, and nothing else is
/// needed, because the keeper has opened the sockets and mounted the bpffs before.
pub const KEPT: [Need; 3] = [
    Need { capability: Capability::CAP_BPF, reason: "load eBPF programs, make, pin and open maps and links" },
    Need {
        capability: Capability::CAP_NET_ADMIN,
        reason: "load and attach programs for packets; culvert0, its addresses and routes; sysctls of our own devices",
    },
    Need {
        capability: Capability::CAP_PERFMON,
        reason: "have the verifier accept copies of partly initialised Rust values, and leave out guards against Spectre",
    },
];

/// The capabilities that this process holds, as /proc/self/status has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// In force.
    pub effective: Vec<String>,
    /// May be put in force.
    pub permitted: Vec<String>,
    /// May be gained by executing a file.
    pub bounding: Vec<String>,
    /// Survive the execution of a file that has capabilities of its own.
    pub inheritable: Vec<String>,
    /// Survive the execution of an ordinary file.
    pub ambient: Vec<String>,
    /// Executing a file gives nothing.
    pub no_new_privs: bool,
}

/// A step of giving up capabilities failed.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// A set could not be changed.
    #[error("reduce the {set} capabilities: {cause}")]
    Reduce {
        /// Which set.
        set: &'static str,
        /// What the system said.
        cause: String,
    },
    /// One that is needed is not there.
    #[error("{capability} is missing: it is needed to {reason} (run as root, or grant it to the container)")]
    Missing {
        /// Which one.
        capability: Capability,
        /// What for.
        reason: &'static str,
    },
    /// /proc/self/status is not as expected.
    #[error("read capabilities from /proc/self/status: {0}")]
    Read(String),
}

/// Gives up everything but `kept`, in all five sets of this thread, and sets no_new_privs. Threads started later inherit it, so it is
/// called while there is one. What is not held cannot be kept: that is no error here, see [`require`].
pub fn reduce_to(kept: &[Need]) -> Result<(), CapabilityError> {
    let failed = |set| move |cause: caps::errors::CapsError| CapabilityError::Reduce { set, cause: cause.to_string() };
    let kept: HashSet<Capability> = kept.iter().map(|need| need.capability).collect();
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    // First the bounding set: reducing it takes CAP_SETPCAP, which goes with the others below.
    for capability in caps::read(None, CapSet::Bounding).map_err(failed("bounding"))?.difference(&kept) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(failed("bounding"))?;
    }
    caps::clear(None, CapSet::Inheritable).map_err(failed("inheritable"))?;
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed("permitted"))?;
    let remaining: HashSet<Capability> = permitted.intersection(&kept).copied().collect();
    // Effective has to stay within permitted all the time: shrink it first.
    caps::set(None, CapSet::Effective, &remaining).map_err(failed("effective"))?;
    caps::set(None, CapSet::Permitted, &remaining).map_err(failed("permitted"))?;
    prctl::set_no_new_privs().map_err(|errno| CapabilityError::Reduce { set: "future", cause: errno.to_string() })
}

/// Refuses to go on without one of the capabilities.
pub fn require(needs: &[Need]) -> Result<(), CapabilityError> {
    let effective = caps::read(None, CapSet::Effective).map_err(|cause| CapabilityError::Read(cause.to_string()))?;
    match needs.iter().find(|need| !effective.contains(&need.capability)) {
        Some(Need { capability, reason }) => Err(CapabilityError::Missing { capability: *capability, reason }),
        None => Ok(()),
    }
}

// === impl Held ===

impl Held {
    /// What the kernel says about this process.
    pub fn read() -> Result<Self, CapabilityError> {
        let status =
            std::fs::read_to_string("/proc/self/status").map_err(|error| CapabilityError::Read(error.to_string()))?;
        Self::parse(&status)
    }

    fn parse(status: &str) -> Result<Self, CapabilityError> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).ok_or_else(|| CapabilityError::Read(format!("no line {name}")))
        };
        let set = |name: &str| {
            let mask = u64::from_str_radix(field(name)?, 16);
            mask.map(names).map_err(|error| CapabilityError::Read(format!("{name}: {error}")))
        };
        Ok(Self {
            effective: set("CapEff")?,
            permitted: set("CapPrm")?,
            bounding: set("CapBnd")?,
            inheritable: set("CapInh")?,
            ambient: set("CapAmb")?,
            no_new_privs: field("NoNewPrivs")? == "1",
        })
    }
}

/// Names of the bits of a mask; a capability newer than this program is named by its number.
fn names(mask: u64) -> Vec<String> {
    let name = |bit: u32| {
        let known = caps::all().into_iter().find(|capability| u32::from(capability.index()) == bit);
        known.map_or_else(|| format!("CAP_{bit}"), |capability| capability.to_string())
    };
    (0..u64::BITS).filter(|bit| mask >> bit & 1 == 1).map(name).collect()
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.effective.is_empty() { f.write_str("none") } else { f.write_str(&self.effective.join(" ")) }
    }
}

#[cfg(test)]
mod tests;
