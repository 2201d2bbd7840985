//! The programs, loaded for one test or for many, and one call to run a packet through them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use aya::maps::RingBuf;
use aya::programs::{Program, ProgramError, ProgramInfo, TestRun, TestRunOptions, TestRunResult};
use aya::{Ebpf, EbpfLoader};
use sdn_agent::kernel::bpf::raw::read;
use sdn_common::event::{FORWARD_KINDS, Verdict};
use sdn_common::{Addr6, Counter, DropKey, Event, Forward, Hook, Reason};

use super::maps::Maps;
use super::world::{self, mapped};

/// The object that the agent has in it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("CULVERT_EBPF_OBJECT"));

/// What `LAST_VERDICT` holds before a run: no verdict.
const NONE: Verdict = Verdict { reason: u32::MAX, forward: u32::MAX, ifindex: u32::MAX, node: u32::MAX };

/// What packets leave behind: empty before each row.
const TRACES: [&str; 8] = [
    "FLOWS_V4",
    "FLOWS_V6",
    "NEW_FLOWS_V4",
    "NEW_FLOWS_V6",
    "FRAGMENTS_V4",
    "FRAGMENTS_V6",
    "MASQUERADE_V4",
    "MASQUERADE_V6",
];

/// How the object is loaded.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The programs write their verdicts down. The agent loads them without.
    pub record: bool,
    /// Capacities other than the small ones that tests need.
    pub capacities: Vec<(&'static str, u32)>,
    /// Maps that are pinned here already and are used in place of the object's.
    pub pinned: Vec<(&'static str, PathBuf)>,
}

/// The programs and their maps.
pub struct Bench {
    object: Ebpf,
    pub(super) maps: Maps,
    /// The world is not as [`world::fill`] left it.
    changed: bool,
}

/// Where and how a packet meets a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    pub hook: Hook,
    /// The device at whose hook it is.
    pub ifindex: u32,
    /// The device that it came in by; 0 for none.
    pub ingress: u32,
    /// The tunnel that it came by.
    pub tunnel: Option<Tunnel>,
    /// Payload of a segment and number of segments, of a GSO packet.
    pub gso: Option<(u32, u32)>,
}

/// A tunnel that a packet came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub from: IpAddr,
    pub vni: u32,
}

/// What a program did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `TC_ACT_*`, of XDP `XDP_*`
    pub action: i32,
    pub verdict: Verdict,
    /// The packet afterwards.
    pub bytes: Vec<u8>,
    /// What was added to the counters.
    pub counted: Totals,
    /// What was counted under a key.
    pub keyed: BTreeMap<DropKey, Counter>,
}

/// `DROP_TOTALS` and `FORWARDS`, without zeroes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub drops: BTreeMap<u32, Counter>,
    pub forwards: BTreeMap<u32, Counter>,
}

// === impl Setup ===

impl Default for Setup {
    fn default() -> Self {
        Self { record: true, capacities: Vec::new(), pinned: Vec::new() }
    }
}

// === impl Bench ===

impl Bench {
    /// Loads everything afresh, into the world of the tables.
    pub fn load(setup: &Setup) -> Self {
        let record = u32::from(setup.record);
        let mut loader = EbpfLoader::new();
        loader.override_global("RECORD", &record, true);
        // Walking a map takes time by its capacity, and rows are many.
        for map in
            TRACES.into_iter().chain(["ENDPOINTS_V4", "ENDPOINTS_V6", "PEERS_V4", "PEERS_V6", "TUNNELS", "DROPS"])
        {
            loader.map_max_entries(map, 512);
        }
        for (map, capacity) in &setup.capacities {
            loader.map_max_entries(map, *capacity);
        }
        for (map, path) in &setup.pinned {
            loader.map_pin_path(map, path);
        }
        let mut object = loader.load(OBJECT).expect("the object's maps, which takes root");
        for program in Hook::ALL.map(Hook::program).into_iter().chain(["overlay_in_test"]) {
            load(&mut object, program).unwrap_or_else(|error| panic!("load {program}: {error:?}"));
        }
        let maps = Maps::take(&mut object);
        let mut bench = Self { object, maps, changed: false };
        world::fill(&mut bench);
        bench
    }

    /// Each program's name, and what the kernel says of it.
    pub fn programs(&mut self) -> Vec<(&'static str, ProgramInfo)> {
        let names = Hook::ALL.map(Hook::program);
        names.map(|name| (name, find(&mut self.object, name).info().expect("what the kernel says"))).into()
    }

    /// Marks the world as changed, so that the next reset puts it back.
    pub fn touch(&mut self) {
        self.changed = true;
    }

    /// Forgets all that packets leave behind.
    pub fn forget(&mut self) {
        TRACES.iter().for_each(|map| self.maps.clear(map));
    }

    /// Forgets all that packets leave behind, but totals, and puts the world back as it was.
    pub fn reset(&mut self) {
        self.forget();
        self.maps.clear("DROPS");
        self.events();
        if self.changed {
            self.empty_world();
            world::fill(self);
            self.changed = false;
        }
    }

    /// Runs a packet through the program of a hook.
    pub fn run(&mut self, at: &At, bytes: &[u8]) -> Outcome {
        self.maps.clear("DROPS");
        let before = self.totals();
        let (action, verdict, out) = self.judge(at, bytes);
        let counted = self.totals().since(&before);
        Outcome { action, verdict, bytes: out, counted, keyed: self.drops() }
    }

    /// Runs a packet and looks only at the action, the verdict and the packet afterwards.
    pub fn judge(&mut self, at: &At, bytes: &[u8]) -> (i32, Verdict, Vec<u8>) {
        let key = 0u32.to_ne_bytes();
        self.maps.put_per_cpu("LAST_VERDICT", &key, &NONE);
        let mut out = vec![0; 4096];
        let context = at.context();
        let program = if at.tunnel.is_some() { "overlay_in_test" } else { at.hook.program() };
        let options = TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut out),
            // A test run of XDP takes the loopback device for where it is, and knows no more of a context.
            ctx_in: (at.hook != Hook::UplinkXdp).then_some(&context),
            ..TestRunOptions::default()
        };
        let result = test_run(&mut self.object, program, options)
            .unwrap_or_else(|error| panic!("run {program} on {} bytes at {at:?}: {error:?}", bytes.len()));
        out.truncate(result.data_size_out as usize);
        let verdicts = self.maps.values::<Verdict>("LAST_VERDICT", &key);
        let mut written = verdicts.iter().filter(|verdict| **verdict != NONE);
        let verdict = *written.next().unwrap_or_else(|| panic!("{program} leaves without a verdict"));
        assert_eq!(written.next(), None, "one program, one verdict");
        (result.return_value.cast_signed(), verdict, out)
    }

    // --- what was counted and reported ---

    /// What was counted since the programs were loaded.
    pub fn totals(&self) -> Totals {
        let counted = |map: &str| {
            self.maps.sums::<u32>(map).into_iter().filter(|(_, counter)| *counter != Counter::default()).collect()
        };
        Totals { drops: counted("DROP_TOTALS"), forwards: counted("FORWARDS") }
    }

    /// The entries of `DROPS`.
    pub fn drops(&self) -> BTreeMap<DropKey, Counter> {
        self.maps.sums("DROPS").into_iter().collect()
    }

    /// Reads the events that nobody has read yet.
    pub fn events(&mut self) -> Vec<Event> {
        let map = self.object.map_mut("EVENTS").expect("the ring of events");
        let mut ring = RingBuf::try_from(map).expect("a ring buffer");
        std::iter::from_fn(|| ring.next().map(|record| read::<Event>(&record))).collect()
    }
}

fn find<'a>(object: &'a mut Ebpf, name: &str) -> &'a mut Program {
    object.program_mut(name).unwrap_or_else(|| panic!("no program {name} in the object"))
}

fn load(object: &mut Ebpf, name: &str) -> Result<(), ProgramError> {
    match find(object, name) {
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        other => panic!("{name} is a program of another type: {:?}", other.prog_type()),
    }
}

fn test_run(object: &mut Ebpf, name: &str, options: TestRunOptions<'_>) -> Result<TestRunResult, ProgramError> {
    match find(object, name) {
        Program::SchedClassifier(program) => program.test_run(options),
        Program::Xdp(program) => program.test_run(options),
        other => panic!("{name} is a program of another type: {:?}", other.prog_type()),
    }
}

// === impl At ===

impl At {
    /// At the host's end of a pod's veth.
    pub fn pod(ifindex: u32) -> Self {
        Self { hook: Hook::PodOut, ifindex, ingress: ifindex, tunnel: None, gso: None }
    }

    /// At the ingress of the VXLAN device.
    pub fn overlay(tunnel: Option<Tunnel>) -> Self {
        Self { hook: Hook::OverlayIn, ifindex: world::VXLAN, ingress: world::VXLAN, tunnel, gso: None }
    }

    /// At the egress of the VXLAN device: a packet of a local socket, or one that came in by `ingress`.
    pub fn host(ingress: u32) -> Self {
        Self { hook: Hook::HostOut, ifindex: world::VXLAN, ingress, tunnel: None, gso: None }
    }

    /// At the ingress of the uplink.
    pub fn uplink() -> Self {
        Self { hook: Hook::UplinkIn, ifindex: world::UPLINK, ingress: world::UPLINK, tunnel: None, gso: None }
    }

    /// At the uplink, before there is a socket buffer.
    pub fn uplink_xdp() -> Self {
        Self { hook: Hook::UplinkXdp, ..Self::uplink() }
    }

    /// `struct __sk_buff` (include/uapi/linux/bpf.h), the fields that a test run accepts.
    fn context(&self) -> [u8; 192] {
        let mut context = [0; 192];
        let mut set = |offset: usize, value: u32| {
            context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        };
        set(36, self.ingress);
        set(40, self.ifindex);
        if let Some(Tunnel { from, vni }) = self.tunnel {
            set(48, vni);
            // As `encap::pretend` reads it; it leaves the third word of an IPv6 address zero.
            match from {
                IpAddr::V4(from) => set(64, from.to_bits()),
                IpAddr::V6(_) => {
                    let Addr6([first, second, third, last]) = mapped(from);
                    assert_eq!(third, 0);
                    for (at, word) in [(52, 1), (56, first), (60, second), (64, last)] {
                        set(at, word);
                    }
                }
            }
        }
        if let Some((size, segments)) = self.gso {
            set(164, segments);
            set(176, size);
        }
        context
    }
}

// === impl Totals ===

impl Totals {
    /// What was added since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let difference = |now: &BTreeMap<u32, Counter>, before: &BTreeMap<u32, Counter>| {
            let subtract = |(index, counter): (&u32, &Counter)| {
                let old = before.get(index).copied().unwrap_or_default();
                (*index, Counter { packets: counter.packets - old.packets, bytes: counter.bytes - old.bytes })
            };
            now.iter().map(subtract).filter(|(_, counter)| counter.packets != 0).collect()
        };
        Self { drops: difference(&self.drops, &before.drops), forwards: difference(&self.forwards, &before.forwards) }
    }

    /// One packet dropped.
    pub fn one_drop(reason: Reason, len: usize) -> Self {
        let counter = Counter { packets: 1, bytes: len as u64 };
        Self { drops: BTreeMap::from([(reason as u32, counter)]), forwards: BTreeMap::new() }
    }

    /// And one forwarded.
    pub fn and_forward(mut self, hook: Hook, forward: Forward, len: usize) -> Self {
        let counter = Counter { packets: 1, bytes: len as u64 };
        self.forwards.insert(hook as u32 * FORWARD_KINDS + forward as u32, counter);
        self
    }
}
