//! Addresses of the node's pods: who has which, durably.
//!
//! An address goes through three steps: reserved in memory while the plugin makes the veth, leased on disk before the kernel
//! forwards for it, given back at the end of the order. A process that dies forgets reservations and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use thiserror::Error;
use tracing::warn;

use sdn_cni::Attachment;

use self::files::{Files, FreedLog};
use self::pool::Pool;
use super::pod::LocalPod;

mod files;
mod pool;

pub use pool::{Family, SubnetUsage};

/// The node's leases. Cheap to clone; all clones are one. Calls may touch the disk for some milliseconds.
#[derive(Clone, Debug)]
pub struct Leases(Arc<Shared>);

/// One attachment's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The pod.
    pub pod: Arc<LocalPod>,
    /// Name of the network configuration it was added by.
    pub network: String,
    /// `st_dev` of the network namespace's file when the lease was made.
    pub netns_device: u64,
    /// `st_ino` of the network namespace's file when the lease was made.
    pub netns_inode: u64,
}

/// Addresses that nobody else gets. Dropped without a [`Leases::commit`], they are given back.
#[derive(Debug)]
pub struct Reservation {
    leases: Leases,
    addresses: Vec<IpAddr>,
}

/// A lease file that could not be read. Its addresses stay in use until [`Leases::release_quarantined`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The file, under its new name.
    pub file: PathBuf,
    /// The addresses in its name.
    pub addresses: Vec<IpAddr>,
    /// The host interface in its name.
    pub host_interface: Option<String>,
    /// What is wrong with it.
    pub problem: String,
}

/// Address management failed.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// The node has no host subnet.
    #[error(
        "reserving an address: this node has no host subnet yet; its Node object has no podCIDRs, or was not read yet"
    )]
    NoSubnet,
    /// All addresses of a family are in use.
    #[error(
        "reserving an address in {subnets}: {used} of {capacity} addresses are in use; the node has more pods than its host subnet has \
         addresses, or containers were removed without DEL (leases of vanished ones are taken back every 30 s)"
    )]
    Exhausted {
        /// The family's host subnets.
        subnets: String,
        /// Addresses in use.
        used: u64,
        /// Addresses that pods can have.
        capacity: u64,
    },
    /// Another attachment's host interface has the same name.
    #[error(
        "leasing an address to {attachment}: its interface's name is that of {other} by chance; make one of the two containers anew"
    )]
    NameTaken {
        /// Whom the lease is for.
        attachment: String,
        /// Who has the name.
        other: String,
    },
    /// Reading or writing the disk failed.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process writes here.
    #[error("opening the leases in {dir}: another agent has them locked; is the previous one still running?")]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
}

#[derive(Debug)]
struct Shared {
    files: Files,
    /// Held while addresses are given back, so that the order on disk is the order in memory. Taken before `memory`.
    freed: Mutex<FreedLog>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    pool: Pool,
    leases: BTreeMap<Attachment, Lease>,
    /// Of the pods that have leases, by their addresses.
    namespaces: HashMap<IpAddr, Arc<str>>,
    quarantined: Vec<Quarantined>,
}

// === impl Leases ===

impl Leases {
    /// Reads the leases in a directory, which is made if there is none, and locks it against other agents. Files that cannot be
    /// read are quarantined; see [`Self::quarantined`].
    pub fn open(dir: &Path, subnets: &[IpNet]) -> Result<Self, LeaseError> {
        let files = Files::open(dir)?;
        let found = files.read()?;
        let mut memory = Memory::default();
        for address in found.freed {
            memory.pool.give_back(address);
        }
        for quarantined in found.quarantined {
            warn!(file = %quarantined.file.display(), problem = quarantined.problem, "lease file put aside");
            for address in &quarantined.addresses {
                memory.pool.occupy(*address);
            }
            memory.quarantined.push(quarantined);
        }
        for lease in found.leases {
            for address in &lease.pod.addresses {
                memory.pool.occupy(*address);
            }
            memory.insert(lease);
        }
        memory.pool.set_subnets(subnets);
        let freed = files.write_freed(memory.pool.freed())?;
        Ok(Self(Arc::new(Shared { files, freed: Mutex::new(freed), memory: Mutex::new(memory) })))
    }

    /// The node's host subnets from now on. Leases of earlier ones stay until they are given back.
    pub fn set_subnets(&self, subnets: &[IpNet]) {
        self.memory().pool.set_subnets(subnets);
    }

    /// Every pod with a lease.
    pub fn pods(&self) -> Vec<Arc<LocalPod>> {
        self.memory().leases.values().map(|lease| lease.pod.clone()).collect()
    }

    /// Every lease.
    pub fn all(&self) -> Vec<Lease> {
        self.memory().leases.values().cloned().collect()
    }

    /// An attachment's lease.
    pub fn find(&self, attachment: &Attachment) -> Option<Lease> {
        self.memory().leases.get(attachment).cloned()
    }

    /// The namespace of the pod that has an address now; none if no pod of Kubernetes has it.
    pub fn namespace_of(&self, address: IpAddr) -> Option<Arc<str>> {
        self.memory().namespaces.get(&address).cloned()
    }

    /// Lease files that could not be read.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.memory().quarantined.clone()
    }

    /// How full the host subnets are.
    pub fn usage(&self) -> Vec<SubnetUsage> {
        self.memory().pool.usage()
    }

    /// An address of each family that the node has a subnet of, or none at all.
    pub fn reserve(&self) -> Result<Reservation, LeaseError> {
        let mut memory = self.memory();
        // Asked before anything is taken, so that nothing has to be put back where it was.
        let families = memory.families_with_free()?;
        let addresses = families.iter().filter_map(|family| memory.pool.take(*family)).collect();
        drop(memory);
        Ok(Reservation { leases: self.clone(), addresses })
    }

    /// Would [`Self::reserve`] succeed?
    pub fn check_free(&self) -> Result<(), LeaseError> {
        self.memory().families_with_free().map(drop)
    }

    /// Makes a reservation a lease; it is on disk when this returns. `lease` has the reservation's addresses.
    pub fn commit(&self, reservation: Reservation, lease: Lease) -> Result<(), LeaseError> {
        assert_eq!(lease.pod.addresses, reservation.addresses, "a lease is for the addresses that were reserved");
        self.check_name(&lease)?;
        if let Err(error) = self.0.files.write(&lease) {
            if let Err(stuck) = self.0.files.remove(&lease.pod) {
                // The file may come back after a crash, so its addresses are not free.
                warn!(%error, %stuck, "lease file left behind; its addresses stay in use");
                reservation.keep();
            }
            return Err(error);
        }
        reservation.keep();
        self.memory().insert(lease);
        Ok(())
    }

    /// Changes an attachment's lease, not its addresses or host interface: the container was added again.
    pub fn update(&self, lease: Lease) -> Result<(), LeaseError> {
        let attachment = lease.pod.attachment();
        let before = self.find(&attachment);
        let same = before.is_some_and(|before| {
            before.pod.addresses == lease.pod.addresses && before.pod.host_interface == lease.pod.host_interface
        });
        assert!(same, "an update is of an existing lease and keeps its addresses and interface");
        self.0.files.write(&lease)?;
        self.memory().insert(lease);
        Ok(())
    }

    /// Gives an attachment's addresses back; that is on disk when this returns. None if it has no lease.
    pub fn free(&self, attachment: &Attachment) -> Result<Option<Arc<LocalPod>>, LeaseError> {
        let mut freed = self.freed();
        let Some(lease) = self.find(attachment) else { return Ok(None) };
        self.log_freed(&mut freed, &lease.pod.addresses, true);
        self.0.files.remove(&lease.pod)?;
        let mut memory = self.memory();
        memory.remove(attachment);
        memory.give_back(&lease.pod.addresses);
        drop(memory);
        self.shorten(&mut freed);
        Ok(Some(lease.pod))
    }

    /// Gives back what a quarantined file held and deletes the file. The caller knows that nobody uses the addresses.
    pub fn release_quarantined(&self, file: &Path) -> Result<(), LeaseError> {
        let mut freed = self.freed();
        let found = self.memory().quarantined.iter().find(|quarantined| quarantined.file == file).cloned();
        let Some(quarantined) = found else { return Ok(()) };
        self.0.files.remove_path(file)?;
        let mut memory = self.memory();
        memory.quarantined.retain(|other| other.file != file);
        // A lease may hold one of them, too: that is how a file comes to be quarantined as the second of two.
        let unused: Vec<IpAddr> = quarantined.addresses.into_iter().filter(|address| !memory.holds(address)).collect();
        memory.give_back(&unused);
        drop(memory);
        self.log_freed(&mut freed, &unused, true);
        Ok(())
    }

    /// Only the order is lost if this fails, and an address must be freed even when the disk is full, so it is a warning.
    fn log_freed(&self, freed: &mut FreedLog, addresses: &[IpAddr], durable: bool) {
        let result = freed.append(addresses).and_then(|()| if durable { freed.sync() } else { Ok(()) });
        if let Err(error) = result {
            warn!(%error, "the order of freed addresses will not survive a restart");
        }
    }

    fn shorten(&self, freed: &mut FreedLog) {
        let memory = self.memory();
        if !freed.is_stale(memory.pool.freed().count()) {
            return;
        }
        let addresses: Vec<IpAddr> = memory.pool.freed().collect();
        drop(memory);
        match self.0.files.write_freed(addresses.into_iter()) {
            Ok(short) => *freed = short,
            Err(error) => warn!(%error, "shortening the order of freed addresses"),
        }
    }

    fn check_name(&self, lease: &Lease) -> Result<(), LeaseError> {
        let memory = self.memory();
        let attachment = lease.pod.attachment();
        let namesake = memory
            .leases
            .values()
            .find(|other| other.pod.host_interface == lease.pod.host_interface && other.pod.attachment() != attachment);
        let Some(other) = namesake else { return Ok(()) };
        Err(LeaseError::NameTaken { attachment: attachment.to_string(), other: other.pod.attachment().to_string() })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Each change under the lock is complete before anything can panic.
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn freed(&self) -> MutexGuard<'_, FreedLog> {
        self.0.freed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Memory ===

impl Memory {
    fn insert(&mut self, lease: Lease) {
        let pod = &lease.pod;
        if !pod.namespace.is_empty() {
            let namespace: Arc<str> = pod.namespace.as_str().into();
            self.namespaces.extend(pod.addresses.iter().map(|address| (*address, namespace.clone())));
        }
        self.leases.insert(pod.attachment(), lease);
    }

    fn remove(&mut self, attachment: &Attachment) {
        let Some(lease) = self.leases.remove(attachment) else { return };
        for address in &lease.pod.addresses {
            self.namespaces.remove(address);
        }
    }

    /// The families that the node has subnets of, if all of them have a free address.
    fn families_with_free(&self) -> Result<Vec<Family>, LeaseError> {
        let families = self.pool.families();
        if families.is_empty() {
            return Err(LeaseError::NoSubnet);
        }
        match families.iter().find(|family| !self.pool.has_free(**family)) {
            Some(full) => Err(exhausted(&self.pool, *full)),
            None => Ok(families),
        }
    }

    fn holds(&self, address: &IpAddr) -> bool {
        let leases = self.leases.values().flat_map(|lease| &lease.pod.addresses);
        let quarantined = self.quarantined.iter().flat_map(|quarantined| &quarantined.addresses);
        leases.chain(quarantined).any(|held| held == address)
    }

    fn give_back(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            self.pool.give_back(*address);
        }
    }
}

// === impl Reservation ===

impl Reservation {
    /// The reserved addresses, at most one a family, IPv4 first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Ends the reservation without giving anything back.
    fn keep(mut self) {
        self.addresses.clear();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.addresses.is_empty() {
            return;
        }
        let leases = self.leases.clone();
        let mut freed = leases.freed();
        // Not made durable: after a crash the address is as old as before, and no pod ever had it.
        leases.log_freed(&mut freed, &self.addresses, false);
        leases.memory().give_back(&self.addresses);
        leases.shorten(&mut freed);
    }
}

// === impl LeaseError ===

impl LeaseError {
    fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }
}

fn exhausted(pool: &Pool, family: Family) -> LeaseError {
    let of_family = |usage: &SubnetUsage| Family::of(usage.subnet.addr()) == family;
    let usage: Vec<SubnetUsage> = pool.usage().into_iter().filter(of_family).collect();
    LeaseError::Exhausted {
        subnets: list(&usage.iter().map(|usage| usage.subnet).collect::<Vec<_>>()),
        used: usage.iter().map(|usage| usage.used).sum(),
        capacity: usage.iter().map(|usage| usage.used + usage.free).sum(),
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
