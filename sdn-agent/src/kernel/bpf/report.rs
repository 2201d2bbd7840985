//! What the kernel says about our programs and maps.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use aya::programs::{Program, ProgramError, ProgramInfo};
use sdn_common::Hook;
use sdn_common::maps::{MAPS, MapSpec};
use serde::{Deserialize, Serialize};

use super::links::Programs;
use super::pins::PinDirectory;

/// A loaded program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramReport {
    /// Its name in the object.
    pub name: String,
    /// The kernel's number, as `bpftool prog` shows it.
    pub id: u32,
    /// Instructions that the verifier walked through; its limit is a million.
    pub verified_instructions: u32,
    /// Bytes after the verifier's changes.
    pub translated_bytes: u32,
    /// Bytes of machine code; 0 where the JIT is off.
    pub jited_bytes: u32,
    /// How often it ran; counted while `kernel.bpf_stats_enabled` is on.
    pub run_count: u64,
    /// Nanoseconds in it; counted while `kernel.bpf_stats_enabled` is on.
    pub run_time_ns: u64,
}

/// A pinned map.
#[derive(Clone, Debug)]
pub struct MapReport {
    /// What the contract says of it.
    pub spec: &'static MapSpec,
    /// Bytes that the kernel has given it.
    pub memory: u64,
}

/// The kernel did not say.
#[derive(Debug, thiserror::Error)]
#[error("read what the kernel says of {object}: {cause}")]
pub struct ReportError {
    /// The program or map.
    pub object: String,
    /// What the system said.
    pub cause: String,
}

impl Programs {
    /// Each hook's program.
    pub fn report(&self) -> Result<Vec<ProgramReport>, ReportError> {
        let object = self.lock();
        let describe = |hook: Hook| {
            let name = hook.program();
            let fail = |cause: String| ReportError { object: format!("program {name}"), cause };
            let program = object.program(name).ok_or_else(|| fail("it is not in the kernel object".to_owned()))?;
            let info = info(program).map_err(|error| fail(error.to_string()))?;
            Ok(ProgramReport {
                name: name.to_owned(),
                id: info.id(),
                verified_instructions: info.verified_instruction_count().unwrap_or_default(),
                translated_bytes: info.size_translated().unwrap_or_default(),
                jited_bytes: info.size_jitted(),
                run_count: info.run_count(),
                run_time_ns: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
            })
        };
        Hook::ALL.into_iter().map(describe).collect()
    }
}

fn info(program: &Program) -> Result<ProgramInfo, ProgramError> {
    program.info()
}

/// Each pinned map of the contract.
pub fn maps(pins: &PinDirectory) -> Result<Vec<MapReport>, ReportError> {
    MAPS.iter().filter(|spec| spec.pinned).map(|spec| report_map(pins, spec)).collect()
}

fn report_map(pins: &PinDirectory, spec: &'static MapSpec) -> Result<MapReport, ReportError> {
    let fail = |cause: String| ReportError { object: format!("map {}", spec.name), cause };
    let map = pins.open_map(spec.name).map_err(|error| fail(error.to_string()))?;
    let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(&path).map_err(|error| fail(format!("{path}: {error}")))?;
    let memory = text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| fail(format!("{path} has no line memlock")))?;
    Ok(MapReport { spec, memory })
}
