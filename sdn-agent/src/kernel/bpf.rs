//! The kernel programs and their maps: found, compared, converted, loaded, attached, without a packet lost.
//!
//! [`Dataplane::open`] is the one way in. Its order is explicit, because a process may be killed between any two steps and the
//! next one has to go on from there; [`Step`] names the points, and the tests stop at each.
//!
//! **An earlier layout** of a map is converted (see [`convert`]). **A later layout**, found after a return to an older build, cannot
//! be read: this build starts with an empty map of its own and removes the later one once its programs run. For the maps of
//! flows that means that established connections are taken up again in mid-stream; all other maps are filled by the agent.

pub mod clock;
pub mod convert;
pub mod links;
#[cfg(feature = "ebpf-log")]
pub mod logging;
pub mod pins;
pub mod raw;
pub mod report;
pub mod ring;
pub mod table;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use sdn_common::maps::{MAPS, MapSpec};
use sdn_common::{Hook, NodeState};

pub use clock::Clock;
pub use links::{AttachError, Device, Programs, XdpMode};
pub use pins::{PinDirectory, PinError};
pub use report::{MapReport, ProgramReport, ReportError};
pub use table::{Table, TableError};

use convert::{CONVERSIONS, Conversion, ConvertError, Pending};
use links::Switched;
use pins::Pinned;

/// The object with the programs, compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("CULVERT_EBPF_OBJECT"));

/// Lines of the verifier's log that an error shows: the last ones say what it refused.
const VERIFIER_LINES: usize = 24;

/// What [`Dataplane::open`] is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The pin directory; see [`PinDirectory::prepare`].
    pub pins: PinDirectory,
    /// Have the programs write each verdict to `LAST_VERDICT`, for tests.
    pub record: bool,
    /// Where XDP programs run, if one is attached.
    pub xdp: XdpMode,
}

/// The programs, loaded, and the way to their maps.
#[derive(Debug)]
pub struct Dataplane {
    pins: PinDirectory,
    programs: Programs,
    clock: Clock,
    opened: Opened,
}

/// What was found and done at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Maps that were there and are used on.
    pub kept: Vec<&'static str>,
    /// Maps that were made, empty or to be filled by a conversion.
    pub made: Vec<&'static str>,
    /// Conversions, and how many entries they wrote.
    pub converted: Vec<(String, u64)>,
    /// Maps whose pinned content could not be used: their name and the version that it had.
    pub restarted: Vec<(&'static str, u32)>,
    /// Links that were switched to the new programs.
    pub switched: Vec<(Hook, u32)>,
    /// Links whose device is gone.
    pub removed: Vec<(Hook, u32)>,
}

/// The points of [`Dataplane::open`] between which a process may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All pins were compared with the contract. Nothing was changed.
    Compared,
    /// Missing maps were made and pinned.
    MapsMade,
    /// The verifier has taken all programs.
    ProgramsLoaded,
    /// Entries of earlier layouts were copied.
    Copied,
    /// So many links were switched to the new programs; the others still run the old ones.
    Switched(usize),
    /// No old program runs any more, and what it changed since the first copy was copied.
    CopiedAgain,
    /// Pins of other versions and of lost devices were removed. The end.
    Cleaned,
}

/// The dataplane could not be started. The programs that were attached before go on.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The pin directory or a pin in it cannot be used.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The object could not be read, or a map not be made.
    #[error("make the kernel maps: {0}; is there enough memory, and the capability CAP_BPF?")]
    Maps(String),
    /// A program was refused.
    #[error("load program {program}: {cause}\n{verifier}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        cause: String,
        /// The end of the verifier's log; empty if it did not come that far.
        verifier: String,
    },
    /// A conversion failed.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// A link could not be switched.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The clock could not be read.
    #[error(transparent)]
    Clock(#[from] clock::ClockError),
    /// The kernel does not tell when old programs have ended.
    #[error("wait until no old program runs (membarrier): {0}")]
    GracePeriod(std::io::Error),
    /// A test ended the start here.
    #[cfg(test)]
    #[error("stopped after {0:?}")]
    Stopped(Step),
}

// === impl Dataplane ===

impl Dataplane {
    /// Loads the programs over whatever an earlier agent left, and switches the links that are pinned to them.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Self::open_with(options, CONVERSIONS, &mut |step| {
            tracing::debug!(?step, "dataplane");
            Ok(())
        })
    }

    fn open_with(
        options: &Options,
        conversions: &[Conversion],
        after: &mut dyn FnMut(Step) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let pins = &options.pins;
        let pinned = pins.inspect()?;
        let pending = convert::pending(conversions, &pinned)?;
        after(Step::Compared)?;
        let mut object = make_maps(options)?;
        after(Step::MapsMade)?;
        load_programs(&mut object)?;
        after(Step::ProgramsLoaded)?;
        let clock = Clock::calibrate(&mut object, known_rate(pins))?;
        let programs = Programs { object: Arc::new(Mutex::new(object)), xdp: options.xdp };
        let mut opened = Opened::new(&pinned, &pending);
        opened.copy(pins, &pending)?;
        after(Step::Copied)?;
        opened.switch(pins, &programs, after)?;
        if !pending.is_empty() {
            raw::wait_grace_period().map_err(OpenError::GracePeriod)?;
            opened.copy(pins, &pending)?;
        }
        after(Step::CopiedAgain)?;
        clean(pins, &pinned)?;
        after(Step::Cleaned)?;
        opened.log();
        Ok(Self { pins: pins.clone(), programs, clock, opened })
    }

    /// What was found and done at the start.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Where maps are opened.
    pub fn pins(&self) -> &PinDirectory {
        &self.pins
    }

    /// The programs, for their counters.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The kernel's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Puts a hook's program on a device; it may be there already.
    pub fn attach(&self, hook: Hook, device: &Device) -> Result<(), AttachError> {
        self.programs.attach(&self.pins, hook, device)
    }

    /// Takes a hook's program off a device; neither needs to be there.
    pub fn detach(&self, hook: Hook, ifindex: u32) -> Result<(), AttachError> {
        links::detach(&self.pins, hook, ifindex)
    }

    /// Which programs are pinned on which devices.
    pub fn attachments(&self) -> Result<Vec<(Hook, u32)>, PinError> {
        Ok(self.pins.inspect_links()?.links)
    }
}

// === The steps ===

fn make_maps(options: &Options) -> Result<Ebpf, OpenError> {
    let record = u32::from(options.record);
    let mut loader = EbpfLoader::new();
    for spec in MAPS.iter().filter(|spec| spec.pinned) {
        // aya opens what is pinned and makes what is not.
        loader.map_pin_path(spec.name, options.pins.map(spec));
    }
    loader.override_global("RECORD", &record, true);
    loader.load(OBJECT).map_err(|error| OpenError::Maps(chain(&error)))
}

fn load_programs(object: &mut Ebpf) -> Result<(), OpenError> {
    for program in Hook::ALL.map(Hook::program).into_iter().chain([clock::PROGRAM]) {
        let fail = |cause: String, verifier: String| OpenError::Program { program, cause, verifier };
        let found =
            object.program_mut(program).ok_or_else(|| fail("it is not in the object".to_owned(), String::new()));
        let loaded = match found? {
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            _ => return Err(fail("it is neither for TCX nor for XDP".to_owned(), String::new())),
        };
        loaded.map_err(|error| match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                fail(io_error.to_string(), tail(&verifier_log.to_string()))
            }
            other => fail(chain(&other), String::new()),
        })?;
    }
    Ok(())
}

/// The rate of `jiffies` as an earlier start found it: it is the kernel's, and bpffs does not outlive the kernel.
fn known_rate(pins: &PinDirectory) -> Option<u32> {
    let table = Table::<u32, NodeState>::open(pins, "NODE_STATE").ok()?;
    table.lookup(&0).ok()?.map(|state| state.hz).filter(|hz| *hz != 0)
}

/// Leaves the maps of this version and the links of known hooks, and nothing else.
fn clean(pins: &PinDirectory, pinned: &Pinned) -> Result<(), PinError> {
    let versions = pinned.other.values().flatten().map(|(_, path)| path);
    versions.chain(&pinned.foreign).try_for_each(|path| pins::unpin(path))?;
    links::remove_foreign(&pins.inspect_links()?.foreign)
}

impl Opened {
    fn new(pinned: &Pinned, pending: &[Pending]) -> Self {
        let kept: Vec<_> = pinned.current.clone();
        let is_made = |spec: &&MapSpec| spec.pinned && !kept.contains(&spec.name);
        let made: Vec<_> = MAPS.iter().filter(is_made).map(|spec| spec.name).collect();
        let unusable = |(name, versions): (&&'static str, &Vec<(u32, PathBuf)>)| {
            let converted = pending.iter().any(|pending| pending.map() == *name);
            versions.first().filter(|_| !converted && made.contains(name)).map(|(version, _)| (*name, *version))
        };
        let restarted = pinned.other.iter().filter_map(unusable).collect();
        Self { kept, made, restarted, ..Self::default() }
    }

    fn copy(&mut self, pins: &PinDirectory, pending: &[Pending]) -> Result<(), ConvertError> {
        for conversion in pending {
            self.converted.push((conversion.title(), conversion.copy(pins)?));
        }
        Ok(())
    }

    fn switch(
        &mut self,
        pins: &PinDirectory,
        programs: &Programs,
        after: &mut dyn FnMut(Step) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let pinned = pins.inspect_links()?;
        for (done, (hook, ifindex)) in pinned.links.into_iter().enumerate() {
            match programs.switch(pins, hook, ifindex)? {
                Switched::Updated => self.switched.push((hook, ifindex)),
                Switched::Removed => self.removed.push((hook, ifindex)),
                Switched::Absent => {}
            }
            after(Step::Switched(done + 1))?;
        }
        Ok(())
    }

    fn log(&self) {
        for (map, version) in &self.restarted {
            tracing::warn!(
                map,
                version,
                "pinned map is of a layout that this build cannot read; started with an empty one"
            );
        }
        for (conversion, entries) in &self.converted {
            tracing::info!(entries, "converted map {conversion}");
        }
        let (kept, made) = (self.kept.len(), self.made.len());
        let (switched, removed) = (self.switched.len(), self.removed.len());
        tracing::info!(kept, made, switched, removed, "dataplane loaded");
    }
}

/// The error with its causes: aya's own messages leave them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.trim_end().lines().collect();
    lines[lines.len().saturating_sub(VERIFIER_LINES)..].join("\n")
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
