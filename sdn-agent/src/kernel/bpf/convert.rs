//! Maps of an earlier layout: their entries are copied into the map of the present layout.
//!
//! The order, and why a stop at any point is safe (`Dataplane::open` follows it):
//!
//! 1. The new map is made and pinned beside the old one. The old programs go on with the old map.
//! 2. Its entries are copied.
//! 3. Each hook is switched to its new program, which uses the new map.
//! 4. After a grace period nothing writes to the old map any more. What changed in it since the first copy is copied.
//! 5. The old pin is removed.
//!
//! An old pin therefore means that the conversion did not come to its end, whatever lies beside it: all of it is done again. An
//! entry is written only where the new map has none or an older one, so a copy never undoes what a new program has written.
//! What a repeated copy may bring back are flows that ended meanwhile; the sweep removes them by their age as it would have.

use std::io;
use std::path::{Path, PathBuf};

use sdn_common::Counter;
use sdn_common::maps::MapSpec;

use super::pins::{Layout, PinDirectory, PinError, Pinned};
use super::raw::{self, Cursor, RawMap, Update};
use super::table::CHUNK;

/// How the entries of a map's earlier layout become entries of the present one.
#[derive(Clone, Copy, Debug)]
pub struct Conversion {
    /// Name in the contract.
    pub map: &'static str,
    /// Version that it starts from.
    pub from: u32,
    /// What that version was like; its type is the same.
    pub key_size: u32,
    /// Bytes of its value.
    pub value_size: u32,
    /// One entry, key and value, in the present layout; `None` leaves it out.
    pub entry: fn(&[u8], &[u8]) -> Option<Entry>,
    /// Whether a converted value (the first) says more than the present map's (the second).
    pub newer: fn(&[u8], &[u8]) -> bool,
}

/// A key and a value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The conversions that this agent knows.
pub const CONVERSIONS: &[Conversion] = conversions();

/// A conversion under way.
#[derive(Debug)]
pub(super) struct Pending {
    conversion: Conversion,
    spec: &'static MapSpec,
    old: PathBuf,
}

/// The entries of a map could not be brought over.
#[derive(Debug, thiserror::Error)]
#[error("convert map {map} from version {from} to {to}: {cause}")]
pub struct ConvertError {
    /// Name in the contract.
    pub map: &'static str,
    /// Version that it starts from.
    pub from: u32,
    /// Version of this agent.
    pub to: u32,
    /// What the kernel said.
    #[source]
    pub cause: io::Error,
}

/// What has to be converted, each old layout compared with what its conversion expects.
pub(super) fn pending(conversions: &[Conversion], pinned: &Pinned) -> Result<Vec<Pending>, PinError> {
    let mut found = Vec::new();
    for (name, versions) in &pinned.other {
        let spec = MapSpec::find(name).expect("inspect() lists maps of the contract");
        // The newest of the older ones: one before it is what an earlier conversion left when it was stopped.
        let old = versions.iter().find(|(version, _)| *version < spec.version);
        let Some((version, path)) = old else { continue };
        let Some(conversion) = conversions.iter().find(|c| c.map == spec.name && c.from == *version) else { continue };
        let layout = Layout {
            key_size: conversion.key_size,
            value_size: conversion.value_size,
            capacity: None,
            ..Layout::of(spec)
        };
        layout.compare(spec.name, *version, path)?;
        found.push(Pending { conversion: *conversion, spec, old: path.clone() });
    }
    Ok(found)
}

impl Pending {
    /// Copies what the new map lacks or has older. Returns how many entries were written.
    pub(super) fn copy(&self, pins: &PinDirectory) -> Result<u64, ConvertError> {
        copy(&self.old, &pins.map(self.spec), &self.conversion).map_err(|cause| ConvertError {
            map: self.spec.name,
            from: self.conversion.from,
            to: self.spec.version,
            cause,
        })
    }

    /// Name in the contract.
    pub(super) fn map(&self) -> &'static str {
        self.spec.name
    }

    /// `FLOWS_V4 version 1 → 2`
    pub(super) fn title(&self) -> String {
        format!("{} version {} → {}", self.spec.name, self.conversion.from, self.spec.version)
    }
}

fn copy(old: &Path, new: &Path, conversion: &Conversion) -> io::Result<u64> {
    let (old, new) = (RawMap::from_pin(old)?, RawMap::from_pin(new)?);
    let (mut cursor, mut written) = (Cursor::default(), 0);
    while !cursor.ended() {
        for (key, value) in old.next_batch(&mut cursor, CHUNK)?.iter() {
            let Some((key, value)) = (conversion.entry)(key, value) else { continue };
            let present = new.lookup(&key)?;
            if present.is_none_or(|present| (conversion.newer)(&value, &present)) {
                new.update(&key, &value, Update::Any)?;
                written += 1;
            }
        }
    }
    Ok(written)
}

/// Counters of what was forwarded: there are more of them now. The new programs count on from the first copy, so the second one only
/// takes what the old programs counted more; a packet that both saw in between may be missing, and none goes backwards.
const FORWARDS: Conversion = Conversion {
    map: "FORWARDS",
    from: 1,
    key_size: size_of::<u32>() as u32,
    value_size: size_of::<Counter>() as u32,
    entry: |key, counters| Some((key.to_owned(), counters.to_owned())),
    newer: |converted, present| packets(converted) > packets(present),
};

/// Packets that all CPUs have counted.
fn packets(counters: &[u8]) -> u64 {
    counters.chunks_exact(size_of::<Counter>()).map(|counter| raw::read::<Counter>(counter).packets).sum()
}

#[cfg(not(feature = "layout-next"))]
const fn conversions() -> &'static [Conversion] {
    const { &[FORWARDS] }
}

#[cfg(feature = "layout-next")]
const fn conversions() -> &'static [Conversion] {
    use sdn_common::flow::v1;
    use sdn_common::{Addr4, Addr6, Flow, FlowKey};

    const fn flows<A: 'static>(map: &'static str) -> Conversion {
        Conversion {
            map,
            from: 1,
            key_size: size_of::<FlowKey<A>>() as u32,
            value_size: size_of::<v1::Flow>() as u32,
            entry: |key, value| {
                let flow = Flow::from(raw::read::<v1::Flow>(value));
                Some((key.to_owned(), raw::bytes_of(&flow).to_owned()))
            },
            newer: |converted, present| raw::read::<Flow>(converted).last_seen > raw::read::<Flow>(present).last_seen,
        }
    }
    const {
        &[
            FORWARDS,
            flows::<Addr4>("FLOWS_V4"),
            flows::<Addr6>("FLOWS_V6"),
            flows::<Addr4>("NEW_FLOWS_V4"),
            flows::<Addr6>("NEW_FLOWS_V6"),
        ]
    }
}
