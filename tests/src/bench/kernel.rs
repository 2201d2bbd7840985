//! System calls that no library here has: counters of the processor, time spent in programs, and a program that does nothing.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;

/// Counts the cycles of one processor, whatever it does: user space, kernel and interrupts.
#[derive(Debug)]
pub struct Cycles(File);

/// While it lives, the kernel counts runs of eBPF programs and the time in them.
#[derive(Debug)]
pub struct RunStatistics(#[expect(dead_code, reason = "held for its lifetime only")] OwnedFd);

/// A program that lets every packet pass, on the TCX ingress of a device. It leaves when dropped.
#[derive(Debug)]
pub struct EmptyProgram {
    program: OwnedFd,
    _link: OwnedFd,
}

/// How often a program ran, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Runs {
    /// Runs.
    pub count: u64,
    /// Nanoseconds in all of them.
    pub nanoseconds: u64,
}

// === impl Cycles ===

impl Cycles {
    /// Starts to count on the processor number `cpu`. Virtual machines often have no such counters.
    pub fn count_on(cpu: i32) -> Result<Self> {
        Self::open(PerfEvent::HARDWARE_CYCLES, cpu).with_context(|| format!("count the cycles of processor {cpu}"))
    }

    /// Cycles since the start.
    pub fn read(&self) -> Result<u64> {
        let mut count = [0; 8];
        (&self.0).read_exact(&mut count).context("read a counter of cycles")?;
        Ok(u64::from_ne_bytes(count))
    }

    fn open((kind, config): (u32, u64), cpu: i32) -> io::Result<Self> {
        let event = PerfEvent { kind, size: size_of::<PerfEvent>() as u32, config, ..PerfEvent::default() };
        let (any_process, no_group) = (-1_i32, -1_i32);
        // SAFETY: the kernel reads `size` bytes of `event`, which is of that size and lives until the call returns.
        let fd = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const event, any_process, cpu, no_group, PERF_FLAG_FD_CLOEXEC)
        };
        owned(fd).map(|fd| Self(fd.into()))
    }
}

/// `struct perf_event_attr` as it was first (`PERF_ATTR_SIZE_VER0`, include/uapi/linux/perf_event.h); later kernels take it.
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint_kind: u32,
    config1: u64,
}

const _: () = assert!(size_of::<PerfEvent>() == 64);

const PERF_FLAG_FD_CLOEXEC: u64 = 8;

impl PerfEvent {
    /// `PERF_TYPE_HARDWARE`, `PERF_COUNT_HW_CPU_CYCLES`
    const HARDWARE_CYCLES: (u32, u64) = (0, 0);
}

// === impl RunStatistics ===

impl RunStatistics {
    /// Has the kernel count; it stops when the last one who wants that is gone.
    pub fn enable() -> Result<Self> {
        let run_time = [0; ATTRIBUTES];
        bpf(BPF_ENABLE_STATS, &run_time)
            .map(Self)
            .context("have the kernel count runs of eBPF programs (this needs root)")
    }
}

// === impl EmptyProgram ===

impl EmptyProgram {
    /// Loads it and attaches it to a device in the calling thread's network namespace.
    pub fn attach(device: &str) -> Result<Self> {
        let ifindex = if_nametoindex(device).with_context(|| format!("find the interface {device}"))?;
        let program = load_empty().context("load an empty eBPF program (this needs root)")?;
        let link = link_ingress(program.as_fd(), ifindex);
        let _link = link.with_context(|| format!("attach an empty program to {device} (TCX needs Linux 6.6)"))?;
        Ok(Self { program, _link })
    }

    /// How often it ran, and how long; counted while there are [`RunStatistics`].
    pub fn runs(&self) -> Result<Runs> {
        let path = format!("/proc/self/fdinfo/{}", self.program.as_raw_fd());
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        let runs = field("run_cnt:").zip(field("run_time_ns:"));
        let (count, nanoseconds) = runs.with_context(|| format!("find run_cnt and run_time_ns in {path}"))?;
        Ok(Runs { count, nanoseconds })
    }
}

/// Commands, kinds and hooks of bpf(2), from include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: i32 = 5;
const BPF_LINK_CREATE: i32 = 28;
const BPF_ENABLE_STATS: i32 = 32;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;

/// Bytes of `union bpf_attr` that are handed over; more than any of the commands has fields in.
const ATTRIBUTES: usize = 128;

fn load_empty() -> io::Result<OwnedFd> {
    // r0 = 0 (TC_ACT_OK); exit. An instruction is opcode, registers, offset, immediate.
    let instructions: [u64; 2] = [0xb7, 0x95];
    let license = c"GPL";
    let mut attributes = [0; ATTRIBUTES];
    put(&mut attributes, 0, BPF_PROG_TYPE_SCHED_CLS);
    put(&mut attributes, 4, instructions.len() as u32);
    put_address(&mut attributes, 8, instructions.as_ptr().addr());
    put_address(&mut attributes, 16, license.as_ptr().addr());
    attributes[48..53].copy_from_slice(b"empty");
    bpf(BPF_PROG_LOAD, &attributes)
}

fn link_ingress(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let mut attributes = [0; ATTRIBUTES];
    put(&mut attributes, 0, program.as_raw_fd().cast_unsigned());
    put(&mut attributes, 4, ifindex);
    put(&mut attributes, 8, BPF_TCX_INGRESS);
    bpf(BPF_LINK_CREATE, &attributes)
}

fn put(attributes: &mut [u8; ATTRIBUTES], offset: usize, value: u32) {
    attributes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
}

fn put_address(attributes: &mut [u8; ATTRIBUTES], offset: usize, address: usize) {
    attributes[offset..offset + 8].copy_from_slice(&(address as u64).to_ne_bytes());
}

/// bpf(2) for commands that answer with a descriptor.
fn bpf(command: i32, attributes: &[u8; ATTRIBUTES]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `ATTRIBUTES` bytes, and what the addresses in them lead to, which the callers keep alive.
    owned(unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), ATTRIBUTES) })
}

/// The descriptor that a system call has answered with.
fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(answer) {
        // SAFETY: the kernel has just made the descriptor for us, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::sandbox::{Namespace, Sandbox};

    #[test]
    fn an_empty_program_counts_what_passes() {
        let _statistics = RunStatistics::enable().unwrap();
        let runs = Sandbox::from(Namespace::new_net().unwrap()).within(|| {
            let empty = EmptyProgram::attach("lo")?;
            let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
            for _ in 0..100 {
                from.send_to(b"hello", to.local_addr()?)?;
                to.recv(&mut [0; 8])?;
            }
            empty.runs()
        });
        let runs = runs.unwrap();
        assert_eq!(runs.count, 100);
        assert!((100 * 5..100 * 100_000).contains(&runs.nanoseconds), "{runs:?}");
    }

    #[test]
    fn counters_count_on_the_processor_asked_for() {
        // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK: nanoseconds, and on every machine.
        let clock = Cycles::open((1, 0), 0).unwrap();
        let before = clock.read().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let passed = clock.read().unwrap() - before;
        assert!((20_000_000..2_000_000_000).contains(&passed), "{passed}");
        assert!(Cycles::open((1, 0), 100_000).is_err());
    }
}
