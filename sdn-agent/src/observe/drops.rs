//! Drops, counted exactly: by reason alone since the maps were made, and by reason, pod, direction, peer and policy rule.
//!
//! The kernel's table of the latter has an end. Rows of pods that are gone are folded into sums by name here, and removed
//! there, when it is half full; until then they stay in the kernel, where a restart of the agent finds them again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sdn_common::event::FORWARD_KINDS;
use sdn_common::{Counter, DropKey, Forward, Hook, Identity, Reason, maps};

use super::names::Names;
use crate::admin::api::{Direction, DropCount};
use crate::kernel::bpf::{PinDirectory, Table, TableError};

/// Rows in the kernel's table from which those of pods that are gone are folded.
const FOLD_FROM: usize = maps::DROPS as usize / 2;

/// Reads what the programs counted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drops(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rows: Table<DropKey, Counter>,
    totals: Table<u32, Counter>,
    forwards: Table<u32, Counter>,
    names: Names,
    folded: Mutex<BTreeMap<Row, Counter>>,
    fold_from: usize,
}

/// What people see of a [`DropKey`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    reason: u16,
    endpoint: String,
    direction: Direction,
    peer: u32,
    author: Option<String>,
}

/// Packets that were not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardCount {
    /// Name of the hook's program.
    pub hook: &'static str,
    /// `pass`, `pod`, `tunnel`, `host`, `outside` or `answer`.
    pub forward: &'static str,
    /// How many.
    pub count: Counter,
}

// === impl Drops ===

impl Drops {
    /// Opens the maps.
    pub fn open(pins: &PinDirectory, names: Names) -> Result<Self, TableError> {
        Self::with_room(pins, names, FOLD_FROM)
    }

    fn with_room(pins: &PinDirectory, names: Names, fold_from: usize) -> Result<Self, TableError> {
        Ok(Self(Arc::new(Inner {
            rows: Table::open(pins, "DROPS")?,
            totals: Table::open(pins, "DROP_TOTALS")?,
            forwards: Table::open(pins, "FORWARDS")?,
            names,
            folded: Mutex::default(),
            fold_from,
        })))
    }

    /// All drops by reason, endpoint, direction, peer and policy rule, most packets first.
    pub fn rows(&self) -> Result<Vec<DropCount>, TableError> {
        // The totals first: a drop between the two readings must not look like one that had no room.
        let totals = self.totals()?;
        let mut sums = self.sums()?;
        // What the table had no room for is known by its reason alone.
        for (reason, total) in totals {
            let number = reason as u16;
            let known = sums.iter().filter(|(row, _)| row.reason == number).fold(0, |sum, (_, c)| sum + c.packets);
            if total.packets > known {
                let bytes = sums.iter().filter(|(row, _)| row.reason == number).fold(0, |sum, (_, c)| sum + c.bytes);
                let rest = Counter { packets: total.packets - known, bytes: total.bytes.saturating_sub(bytes) };
                let endpoint = "unattributed".to_owned();
                let (direction, peer) = (Direction::Ingress, Identity::UNKNOWN.0);
                let row = Row { reason: number, endpoint, direction, peer, author: None };
                add(&mut sums, row, rest);
            }
        }
        let mut rows: Vec<DropCount> = sums.into_iter().map(|(row, count)| describe(row, count)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.packets));
        Ok(rows)
    }

    /// All drops by reason alone. Never decreases while the node is up.
    pub fn totals(&self) -> Result<Vec<(Reason, Counter)>, TableError> {
        let counted = self.0.totals.sums()?.into_iter().filter(|(_, count)| count.packets > 0);
        Ok(counted.filter_map(|(number, count)| Some((Reason::from_number(number.try_into().ok()?)?, count))).collect())
    }

    /// What was not dropped, by hook and where it went. Never decreases while the node is up.
    pub fn forwards(&self) -> Result<Vec<ForwardCount>, TableError> {
        let sums = self.0.forwards.sums()?;
        let count = |(index, count): (u32, Counter)| {
            let hook = Hook::ALL.into_iter().find(|hook| *hook as u32 == index / FORWARD_KINDS)?;
            let forward = FORWARD_NAMES.iter().find(|(forward, _)| *forward as u32 == index % FORWARD_KINDS)?.1;
            Some(ForwardCount { hook: hook.program(), forward, count })
        };
        Ok(sums.into_iter().filter_map(count).collect())
    }

    fn sums(&self) -> Result<BTreeMap<Row, Counter>, TableError> {
        let Inner { rows, names, folded, fold_from, .. } = &*self.0;
        // Held across the reading: two readers must not both fold one row.
        let mut folded = folded.lock().unwrap_or_else(PoisonError::into_inner);
        let found = rows.sums()?;
        let is_gone = |key: &DropKey| key.endpoint != 0 && !names.is_present(key.endpoint);
        let fold = found.len() >= *fold_from;
        let mut sums = BTreeMap::new();
        for (key, count) in found {
            let row = Row::new(&key, names);
            // A device that is gone has no program that could count on.
            if fold && is_gone(&key) && rows.remove(&key)? {
                add(&mut folded, row, count);
            } else {
                add(&mut sums, row, count);
            }
        }
        for (row, count) in folded.iter() {
            add(&mut sums, row.clone(), *count);
        }
        Ok(sums)
    }
}

const FORWARD_NAMES: [(Forward, &str); 6] = [
    (Forward::Pass, "pass"),
    (Forward::Pod, "pod"),
    (Forward::Tunnel, "tunnel"),
    (Forward::Host, "host"),
    (Forward::Outside, "outside"),
    (Forward::Answer, "answer"),
];

fn add(sums: &mut BTreeMap<Row, Counter>, row: Row, count: Counter) {
    let sum = sums.entry(row).or_default();
    sum.packets += count.packets;
    sum.bytes += count.bytes;
}

fn describe(row: Row, count: Counter) -> DropCount {
    let (reason, description) = reason_texts(row.reason);
    DropCount {
        reason,
        description,
        endpoint: row.endpoint,
        direction: row.direction,
        peer: identity(Identity(row.peer)),
        author: row.author,
        packets: count.packets,
        bytes: count.bytes,
    }
}

/// A reason's name and its sentence. A number of a later build's programs stays a number.
pub(super) fn reason_texts(number: u16) -> (String, String) {
    match Reason::from_number(number) {
        Some(reason) => (reason.label().to_owned(), reason.text().to_owned()),
        None => (format!("reason_{number}"), "A reason that this build does not know.".to_owned()),
    }
}

/// Which way, seen from the endpoint.
pub(super) fn direction(number: u8) -> Direction {
    if number == sdn_common::Direction::Egress as u8 { Direction::Egress } else { Direction::Ingress }
}

fn identity(identity: Identity) -> String {
    match identity {
        Identity::UNKNOWN => "unknown".to_owned(),
        Identity::HOST => "this node".to_owned(),
        Identity::NODE => "another node".to_owned(),
        Identity::OUTSIDE => "outside".to_owned(),
        Identity::POD => "a pod".to_owned(),
        Identity(number) => format!("identity {number}"),
    }
}

// === impl Row ===

impl Row {
    fn new(key: &DropKey, names: &Names) -> Self {
        Self {
            reason: key.reason,
            endpoint: names.resolve(key.endpoint),
            direction: direction(key.direction),
            peer: key.peer.0,
            author: names.author(key.author),
        }
    }
}

#[cfg(test)]
mod tests;
