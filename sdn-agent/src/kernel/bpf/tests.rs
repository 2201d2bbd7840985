use std::collections::BTreeSet;
use std::fs;

use aya::programs::links::{FdLink, PinnedLink};
use sdn_common::maps::NO_PREALLOC;
use sdn_common::{Addr4, Be16, Flow, FlowKey, Peer};

use super::pins::{Field, Layout};
use super::raw::{Cursor, RawMap, Update};
use super::testing::*;
use super::*;

// === The contract ===

#[test]
fn the_objects_maps_are_those_of_the_contract() {
    sandbox(|pins| {
        let mut loader = EbpfLoader::new();
        for spec in MAPS {
            loader.map_pin_path(spec.name, pins.map(spec));
        }
        let object = loader.load(OBJECT).unwrap();
        // Names with a dot are sections of the program's own constants; AYA_LOGS comes with the developers' logging.
        let own = |name: &&str| !name.starts_with('.') && *name != "AYA_LOGS" && !name.starts_with("AYA_LOG");
        let found: BTreeSet<&str> = object.maps().map(|(name, _)| name).filter(own).collect();
        let expected: BTreeSet<&str> = MAPS.iter().map(|spec| spec.name).collect();
        assert_eq!(found, expected);
        for spec in MAPS {
            Layout::of(spec).compare(spec.name, spec.version, &pins.map(spec)).unwrap();
        }
    });
}

#[test]
fn programs_load_within_the_verifiers_limit() {
    sandbox(|pins| {
        let dataplane = open(&pins);
        let reports = dataplane.programs().report().unwrap();
        let names: Vec<_> = reports.iter().map(|report| report.name.as_str()).collect();
        assert_eq!(names, ["pod_out", "overlay_in", "host_out", "uplink_in", "uplink_xdp"]);
        for report in reports {
            println!("program: {}", serde_json::to_string(&report).unwrap());
            assert!(report.id > 0 && report.translated_bytes > 0, "{report:?}");
            assert!((1..1_000_000).contains(&report.verified_instructions), "{report:?}");
        }
        for map in report::maps(&pins).unwrap() {
            let preallocated = map.spec.flags & NO_PREALLOC == 0 && map.spec.key_size > 0;
            let least = u64::from(map.spec.capacity * map.spec.value_size);
            assert!(!preallocated || map.memory >= least, "{}: {} bytes", map.spec.name, map.memory);
        }
        assert!(clock_rates_agree(dataplane.clock()), "{:?}", dataplane.clock());
    });
}

/// CONFIG_HZ as the kernel shows it indirectly: the length of a jiffy in a coarse clock's resolution.
fn clock_rates_agree(clock: Clock) -> bool {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the struct it is given.
    let result = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut resolution) };
    result == 0 && 1_000_000_000 / resolution.tv_nsec == i64::from(clock.hz())
}

// === The pin directory ===

#[test]
fn the_pin_directory_is_made_where_a_bpffs_is_or_can_be() {
    sandbox(|pins| {
        let root = pins.maps().parent().unwrap().to_owned();
        assert_eq!(PinDirectory::prepare(&root).unwrap(), pins, "again, as at each start");
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
        let parent = root.parent().unwrap().to_str().unwrap();
        assert_eq!(mounts.lines().filter(|line| line.contains(parent)).count(), 1, "mounted once");
        // Below a bpffs there is one already.
        let below = root.parent().unwrap().join("deeper/culvert");
        assert!(PinDirectory::prepare(&below).unwrap().maps().is_dir());
        let all = caps::read(None, caps::CapSet::Effective).unwrap();
        caps::set(None, caps::CapSet::Effective, &caps::CapsHashSet::new()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let error = PinDirectory::prepare(&elsewhere.path().join("bpf/culvert")).unwrap_err().to_string();
        caps::set(None, caps::CapSet::Effective, &all).unwrap();
        assert!(error.starts_with("mount a bpffs on ") && error.contains("CAP_SYS_ADMIN"), "{error}");
    });
}

// === Starting again ===

#[test]
fn a_restart_keeps_what_the_maps_hold() {
    sandbox(|pins| {
        let first = open(&pins);
        assert_eq!((first.opened().kept.len(), first.opened().made.is_empty()), (0, false));
        let peers = Table::<Addr4, Peer>::open(&pins, "PEERS_V4").unwrap();
        let (address, peer) = (Addr4::new([10, 128, 2, 9]), Peer { node: 3, incarnation: 7, ..Peer::default() });
        peers.insert(&address, &peer).unwrap();
        assert_eq!(known_rate(&pins), None);
        let state = NodeState { hz: first.clock().hz(), epoch: 41, ..NodeState::default() };
        Table::<u32, NodeState>::open(&pins, "NODE_STATE").unwrap().insert(&0, &state).unwrap();
        drop(first);
        let second = open(&pins);
        assert!(second.opened().made.is_empty() && second.opened().restarted.is_empty(), "{:?}", second.opened());
        let peers = Table::<Addr4, Peer>::open(&pins, "PEERS_V4").unwrap();
        assert_eq!(peers.entries().unwrap(), [(address, peer)]);
        assert_eq!(known_rate(&pins), Some(second.clock().hz()));
        assert!(peers.remove(&address).unwrap() && !peers.remove(&address).unwrap());
    });
}

#[test]
fn a_pinned_map_that_differs_is_refused_before_anything_is_loaded() {
    sandbox(|pins| {
        let spec = MapSpec::find("PEERS_V4").unwrap();
        let right = Layout::of(spec);
        let hash = MapSpec::find("ENDPOINTS_V4").unwrap().kind as u32;
        let rows = [
            (Field::Type, Layout { kind: 9, flags: 0, ..right }, hash, 9),
            (Field::KeySize, Layout { key_size: 8, ..right }, 4, 8),
            (Field::ValueSize, Layout { value_size: 64, ..right }, 16, 64),
            (Field::ValueSize, Layout { value_size: 8, ..right }, 16, 8),
            (Field::MaxEntries, Layout { capacity: Some(1024), ..right }, spec.capacity, 1024),
            (Field::Flags, Layout { capacity: Some(spec.capacity), flags: 0, ..right }, NO_PREALLOC, 0),
        ];
        for (field, layout, expected, found) in rows {
            let path = pins.map(spec);
            pin_map(layout, &path);
            let error =
                Dataplane::open(&Options { pins: pins.clone(), record: false, xdp: XdpMode::Generic }).unwrap_err();
            let OpenError::Pin(PinError::Mismatch { map, version, field: f, expected: e, found: is, .. }) = &error
            else {
                panic!("{field}: {error}");
            };
            assert_eq!((*map, *version, *f, *e, *is), ("PEERS_V4", 1, field, expected, found));
            let text = error.to_string();
            assert!(text.contains("PEERS_V4_v1") && text.contains(&field.to_string()), "{text}");
            assert_eq!(names(&pins.maps()), ["PEERS_V4_v1"], "nothing else was made");
            fs::remove_file(&path).unwrap();
        }
        open(&pins);
    });
}

#[test]
fn a_later_layout_starts_afresh_and_what_is_unknown_is_removed() {
    sandbox(|pins| {
        let spec = MapSpec::find("PEERS_V4").unwrap();
        let later = Layout { value_size: 64, ..Layout::of(spec) };
        pin_map(later, &pins.map_version("PEERS_V4", 9));
        pin_map(later, &pins.maps().join("NO_SUCH_MAP_v1"));
        let dataplane = open(&pins);
        assert_eq!(dataplane.opened().restarted, [("PEERS_V4", 9)]);
        let expected: BTreeSet<String> =
            MAPS.iter().filter(|spec| spec.pinned).map(|spec| format!("{}_v{}", spec.name, spec.version)).collect();
        assert_eq!(BTreeSet::from_iter(names(&pins.maps())), expected);
    });
}

/// What the node role holds while it runs (decision 15 of the design): nothing to mount with, nothing to read any map by number.
#[test]
fn three_capabilities_are_enough() {
    use caps::{CapSet, Capability, CapsHashSet};

    sandbox(|pins| {
        let device = veth("cv1");
        let all = caps::read(None, CapSet::Effective).unwrap();
        let held = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];
        caps::set(None, CapSet::Effective, &CapsHashSet::from(held)).unwrap();
        for xdp in [XdpMode::Generic, XdpMode::Native, XdpMode::Native] {
            let dataplane = open_with_xdp(&pins, xdp);
            dataplane.attach(Hook::PodOut, &device).unwrap();
            dataplane.attach(Hook::UplinkXdp, &device).unwrap();
            assert!(dataplane.programs().report().unwrap().iter().all(|report| report.jited_bytes > 0));
            report::maps(&pins).unwrap();
            Table::<Addr4, Peer>::open(&pins, "PEERS_V4").unwrap().entries().unwrap();
            raw::wait_grace_period().unwrap();
        }
        caps::set(None, CapSet::Effective, &all).unwrap();
    });
}

// === Links ===

#[test]
fn a_link_is_switched_in_place() {
    sandbox(|pins| {
        let device = veth("cv1");
        let first = open(&pins);
        first.attach(Hook::PodOut, &device).unwrap();
        first.attach(Hook::HostOut, &device).unwrap();
        let (link, program) = link_ids(&pins, Hook::PodOut, device.ifindex).unwrap();
        first.attach(Hook::PodOut, &device).unwrap();
        assert_eq!(link_ids(&pins, Hook::PodOut, device.ifindex), Some((link, program)), "attach is idempotent");
        drop(first);
        assert_eq!(link_ids(&pins, Hook::PodOut, device.ifindex), Some((link, program)), "it outlives its loader");
        let second = open(&pins);
        let (same_link, other_program) = link_ids(&pins, Hook::PodOut, device.ifindex).unwrap();
        assert_eq!(same_link, link);
        assert_ne!(other_program, program);
        let both = vec![(Hook::PodOut, device.ifindex), (Hook::HostOut, device.ifindex)];
        assert_eq!(second.opened().switched, both);
        assert_eq!(second.attachments().unwrap(), both);
        second.detach(Hook::PodOut, device.ifindex).unwrap();
        second.detach(Hook::PodOut, device.ifindex).unwrap();
        assert_eq!(second.attachments().unwrap(), [(Hook::HostOut, device.ifindex)]);
    });
}

#[test]
fn a_link_of_a_lost_device_is_removed_or_replaced() {
    sandbox(|pins| {
        let (gone, anew) = (veth("gone"), veth("anew"));
        let first = open(&pins);
        first.attach(Hook::PodOut, &gone).unwrap();
        first.attach(Hook::PodOut, &anew).unwrap();
        let (old_link, _) = link_ids(&pins, Hook::PodOut, anew.ifindex).unwrap();
        ip("link del gone");
        ip("link del anew");
        let second = open(&pins);
        assert_eq!(second.opened().removed.len(), 2);
        assert_eq!(second.attachments().unwrap(), []);
        // While an agent runs, a device may go and another come with its index.
        ip(&format!("link add anew index {} type veth peer name anew-p", anew.ifindex));
        second.attach(Hook::PodOut, &anew).unwrap();
        let (link, _) = link_ids(&pins, Hook::PodOut, anew.ifindex).unwrap();
        assert_ne!(link, old_link);
        ip("link del anew");
        ip(&format!("link add anew index {} type veth peer name anew-p", anew.ifindex));
        second.attach(Hook::PodOut, &anew).unwrap();
        assert_ne!(link_ids(&pins, Hook::PodOut, anew.ifindex).unwrap().0, link);
    });
}

#[test]
fn a_device_that_is_not_there_or_another_one_is_refused() {
    sandbox(|pins| {
        let device = veth("cv1");
        let dataplane = open(&pins);
        let other = Device { ifindex: device.ifindex + 100, ..device.clone() };
        let error = dataplane.attach(Hook::PodOut, &other).unwrap_err();
        assert!(matches!(error, AttachError::WrongDevice { found, .. } if found == device.ifindex), "{error}");
        let absent = Device { name: "absent".to_owned(), ifindex: 9 };
        let error = dataplane.attach(Hook::PodOut, &absent).unwrap_err().to_string();
        assert!(error.starts_with("attach pod_out to absent: "), "{error}");
        assert_eq!(dataplane.attachments().unwrap(), []);
    });
}

#[test]
fn links_of_unknown_hooks_are_removed() {
    sandbox(|pins| {
        let device = veth("cv1");
        let dataplane = open(&pins);
        dataplane.attach(Hook::PodOut, &device).unwrap();
        let of_later = pins.links().join("connect4-7");
        FdLink::from(PinnedLink::from_pin(pins.link(Hook::PodOut, device.ifindex)).unwrap()).pin(&of_later).unwrap();
        drop(dataplane);
        open(&pins);
        assert!(!of_later.exists());
    });
}

// === XDP ===

/// Sends UDP out of a veth's other end.
fn send_from_peer(device: &Device, source: [u8; 4], packets: u16) {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};

    let peer = format!("{}-p", device.name);
    let mut interfaces = nix::ifaddrs::getifaddrs().unwrap();
    let found = interfaces
        .find_map(|interface| interface.address.filter(|_| interface.interface_name == peer)?.as_link_addr().copied());
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
    let mut frame = vec![0xff; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
    frame.extend(source);
    frame.extend([192, 168, 9, 1, 0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
    for _ in 0..packets {
        sendto(socket.as_raw_fd(), &frame, &found.unwrap(), MsgFlags::empty()).unwrap();
    }
}

/// Loopback's source packets that were dropped, and packets that were passed by `uplink_xdp`.
fn judged(pins: &PinDirectory) -> (u64, u64) {
    let sum = |map: &str, index: u32| -> u64 {
        let sums = Table::<u32, sdn_common::Counter>::open(pins, map).unwrap().sums().unwrap();
        sums.into_iter().find(|(key, _)| *key == index).unwrap().1.packets
    };
    let passed = Hook::UplinkXdp as u32 * sdn_common::event::FORWARD_KINDS + sdn_common::Forward::Pass as u32;
    (sum("DROP_TOTALS", sdn_common::Reason::UplinkLoopback as u32), sum("FORWARDS", passed))
}

/// Sends three forged packets and two others, and waits until all were judged.
fn forged_are_dropped(pins: &PinDirectory, device: &Device) {
    let (dropped, passed) = judged(pins);
    send_from_peer(device, [127, 9, 9, 9], 3);
    send_from_peer(device, [192, 168, 9, 7], 2);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    // The kernel's own packets, such as for neighbours, pass as well.
    while judged(pins).0 < dropped + 3 || judged(pins).1 < passed + 2 {
        assert!(std::time::Instant::now() < deadline, "{:?} after {:?}", judged(pins), (dropped, passed));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(judged(pins).0, dropped + 3, "and nothing else");
}

/// The mode that the kernel runs a device's XDP program in, as `ip link` says it.
fn xdp_mode(device: &Device) -> Option<&'static str> {
    let output = std::process::Command::new("ip").args(["link", "show", &device.name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    ["xdpgeneric", "xdp"].into_iter().find(|mode| text.split_whitespace().any(|word| word == *mode))
}

fn uplink_veth() -> Device {
    let device = veth("up0");
    ip("link set up0 up");
    ip("link set up0-p up");
    device
}

#[test]
fn xdp_drops_what_is_forged_and_is_switched_in_place() {
    for (mode, name) in [(XdpMode::Generic, "xdpgeneric"), (XdpMode::Native, "xdp")] {
        sandbox(move |pins| {
            let device = uplink_veth();
            let first = open_with_xdp(&pins, mode);
            first.attach(Hook::UplinkXdp, &device).unwrap();
            assert_eq!(xdp_mode(&device), Some(name));
            forged_are_dropped(&pins, &device);
            let (link, program) = link_ids(&pins, Hook::UplinkXdp, device.ifindex).unwrap();
            first.attach(Hook::UplinkXdp, &device).unwrap();
            assert_eq!(link_ids(&pins, Hook::UplinkXdp, device.ifindex), Some((link, program)), "attach is idempotent");
            drop(first);
            forged_are_dropped(&pins, &device);
            let second = open_with_xdp(&pins, mode);
            let (same_link, other_program) = link_ids(&pins, Hook::UplinkXdp, device.ifindex).unwrap();
            assert_eq!(same_link, link);
            assert_ne!(other_program, program);
            assert_eq!(second.opened().switched, [(Hook::UplinkXdp, device.ifindex)]);
            forged_are_dropped(&pins, &device);
            second.detach(Hook::UplinkXdp, device.ifindex).unwrap();
            assert_eq!((xdp_mode(&device), second.attachments().unwrap()), (None, vec![]));
        });
    }
}

#[test]
fn xdp_of_another_mode_is_replaced() {
    sandbox(|pins| {
        let device = uplink_veth();
        let mut earlier = None;
        for (mode, name) in
            [(XdpMode::Generic, "xdpgeneric"), (XdpMode::Native, "xdp"), (XdpMode::Generic, "xdpgeneric")]
        {
            let dataplane = open_with_xdp(&pins, mode);
            dataplane.attach(Hook::UplinkXdp, &device).unwrap();
            assert_eq!(xdp_mode(&device), Some(name));
            let link = link_ids(&pins, Hook::UplinkXdp, device.ifindex).map(|(link, _)| link);
            assert_ne!(link, earlier);
            earlier = link;
            forged_are_dropped(&pins, &device);
        }
        // A device that was made anew under its index, while an agent runs.
        let dataplane = open(&pins);
        ip("link del up0");
        ip(&format!("link add up0 index {} type veth peer name up0-p", device.ifindex));
        dataplane.attach(Hook::UplinkXdp, &device).unwrap();
        assert_eq!(xdp_mode(&device), Some("xdpgeneric"));
        assert_ne!(link_ids(&pins, Hook::UplinkXdp, device.ifindex).map(|(link, _)| link), earlier);
    });
}

#[test]
fn a_device_without_native_xdp_says_so() {
    sandbox(|pins| {
        ip("link add dum0 type vxlan external dstport 4790");
        let without = device("dum0");
        let error = open_with_xdp(&pins, XdpMode::Native).attach(Hook::UplinkXdp, &without).unwrap_err().to_string();
        assert!(error.starts_with("attach uplink_xdp to dum0: "), "{error}");
        assert!(error.contains("no native XDP") && error.contains("set uplink-xdp to generic or off"), "{error}");
        let dataplane = open(&pins);
        assert_eq!(dataplane.attachments().unwrap(), []);
        dataplane.attach(Hook::UplinkXdp, &without).unwrap();
        assert_eq!(xdp_mode(&without), Some("xdpgeneric"));
    });
}

#[test]
fn somebody_elses_xdp_program_is_left_alone() {
    sandbox(|pins| {
        let device = uplink_veth();
        open(&pins).attach(Hook::UplinkXdp, &device).unwrap();
        // It is somebody else's as soon as its pin is not where ours are.
        let elsewhere = pins.maps().join("elsewhere");
        FdLink::from(PinnedLink::from_pin(pins.link(Hook::UplinkXdp, device.ifindex)).unwrap())
            .pin(&elsewhere)
            .unwrap();
        fs::remove_file(pins.link(Hook::UplinkXdp, device.ifindex)).unwrap();
        for mode in [XdpMode::Generic, XdpMode::Native] {
            let programs = Programs { xdp: mode, ..open_programs() };
            let error = programs.attach(&pins, Hook::UplinkXdp, &device).unwrap_err().to_string();
            assert!(error.contains("somebody else's XDP program"), "{error}");
        }
        assert_eq!(xdp_mode(&device), Some("xdpgeneric"));
    });
}

/// The programs alone, with maps of their own.
fn open_programs() -> Programs {
    let mut object = EbpfLoader::new().load(OBJECT).unwrap();
    load_programs(&mut object).unwrap();
    Programs { object: Arc::new(Mutex::new(object)), xdp: XdpMode::Generic }
}

// === Conversion ===

/// A layout before the present one: without the port and its padding at the end.
const OLD_VERSION: u32 = 0;
const OLD_VALUE: usize = 40;

fn conversion() -> Conversion {
    Conversion {
        map: "FLOWS_V4",
        from: OLD_VERSION,
        key_size: 16,
        value_size: OLD_VALUE as u32,
        entry: |key, value| Some((key.to_owned(), [value, &[0; size_of::<Flow>() - OLD_VALUE]].concat())),
        newer: |converted, present| raw::read::<Flow>(converted).last_seen > raw::read::<Flow>(present).last_seen,
    }
}

fn flow_key(number: u16) -> FlowKey<Addr4> {
    let (low, high) = (Addr4::new([10, 128, 0, 2]), Addr4::new([10, 128, 2, 2]));
    FlowKey::new((low, Be16::new(number)), (high, Be16::new(80)), 6).0
}

fn old_flow(last_seen: u64) -> Vec<u8> {
    let flow = Flow { last_seen, state: Flow::REPLIED, ..Flow::default() };
    raw::bytes_of(&flow)[..OLD_VALUE].to_owned()
}

/// The map of the earlier layout, as the programs of an earlier agent left it.
fn pin_old_flows(pins: &PinDirectory) -> RawMap {
    let spec = MapSpec::find("FLOWS_V4").unwrap();
    let path = pins.map_version("FLOWS_V4", OLD_VERSION);
    pin_map(Layout { value_size: OLD_VALUE as u32, ..Layout::of(spec) }, &path);
    let map = RawMap::from_pin(&path).unwrap();
    for number in 0..3000 {
        map.update(raw::bytes_of(&flow_key(number)), &old_flow(100), Update::Any).unwrap();
    }
    map
}

fn last_seen(pins: &PinDirectory, number: u16) -> Option<u64> {
    let flows = Table::<FlowKey<Addr4>, Flow>::open(pins, "FLOWS_V4").unwrap();
    flows.lookup(&flow_key(number)).unwrap().map(|flow| flow.last_seen)
}

#[test]
fn an_earlier_layout_is_converted_while_it_goes_on_changing() {
    sandbox(|pins| {
        let device = veth("cv1");
        let earlier = open(&pins);
        earlier.attach(Hook::PodOut, &device).unwrap();
        drop(earlier);
        fs::remove_file(pins.map(MapSpec::find("FLOWS_V4").unwrap())).unwrap();
        let old = pin_old_flows(&pins);
        let options = Options { pins: pins.clone(), record: false, xdp: XdpMode::Generic };
        let mut steps = Vec::new();
        let dataplane = Dataplane::open_with(&options, &[conversion()], &mut |step| {
            steps.push(step);
            match step {
                // The old programs go on: one flow sees a packet, one is opened.
                Step::Copied => {
                    old.update(raw::bytes_of(&flow_key(5)), &old_flow(200), Update::Any).unwrap();
                    old.update(raw::bytes_of(&flow_key(4000)), &old_flow(200), Update::Any).unwrap();
                }
                // A new program sees a packet of a flow that the old map knows from before.
                Step::Switched(1) => {
                    let flows = Table::<FlowKey<Addr4>, Flow>::open(&options.pins, "FLOWS_V4").unwrap();
                    let flow = Flow { last_seen: 300, ..Flow::default() };
                    flows.insert(&flow_key(6), &flow).unwrap();
                }
                _ => {}
            }
            Ok(())
        });
        let dataplane = dataplane.unwrap_or_else(|error| panic!("{error}"));
        let expected = [
            Step::Compared,
            Step::MapsMade,
            Step::ProgramsLoaded,
            Step::Copied,
            Step::Switched(1),
            Step::CopiedAgain,
            Step::Cleaned,
        ];
        assert_eq!(steps, expected);
        let title = format!("FLOWS_V4 version 0 → {}", sdn_common::maps::FLOWS_VERSION);
        assert_eq!(dataplane.opened().converted, [(title.clone(), 3000), (title, 2)]);
        assert_eq!(dataplane.opened().restarted, []);
        assert_eq!([5, 6, 7, 4000].map(|number| last_seen(&pins, number)), [200, 300, 100, 200].map(Some));
        assert!(!pins.map_version("FLOWS_V4", OLD_VERSION).exists());
    });
}

#[test]
fn a_conversion_stopped_anywhere_is_finished_by_the_next_start() {
    let stops = [
        Step::Compared,
        Step::MapsMade,
        Step::ProgramsLoaded,
        Step::Copied,
        Step::Switched(1),
        Step::Switched(2),
        Step::CopiedAgain,
        Step::Cleaned,
    ];
    for stop in stops {
        sandbox(move |pins| {
            let (one, two) = (veth("cv1"), veth("cv2"));
            let earlier = open(&pins);
            earlier.attach(Hook::PodOut, &one).unwrap();
            earlier.attach(Hook::PodOut, &two).unwrap();
            drop(earlier);
            fs::remove_file(pins.map(MapSpec::find("FLOWS_V4").unwrap())).unwrap();
            let old = pin_old_flows(&pins);
            let ids = || [&one, &two].map(|device| link_ids(&pins, Hook::PodOut, device.ifindex).unwrap());
            let before = ids();
            let options = Options { pins: pins.clone(), record: false, xdp: XdpMode::Generic };
            let stopped = Dataplane::open_with(&options, &[conversion()], &mut |step| {
                if step == stop { Err(OpenError::Stopped(step)) } else { Ok(()) }
            });
            assert!(matches!(stopped, Err(OpenError::Stopped(step)) if step == stop), "{stopped:?}");
            // Each hook has a program at any time, and always by the same link.
            assert_eq!(ids().map(|(link, _)| link), before.map(|(link, _)| link), "stopped after {stop:?}");
            // Old programs, where they still run, go on changing the old map.
            if !matches!(stop, Step::Cleaned) {
                old.update(raw::bytes_of(&flow_key(5)), &old_flow(200), Update::Any).unwrap();
            }
            Dataplane::open_with(&options, &[conversion()], &mut |_| Ok(())).unwrap_or_else(|error| panic!("{error}"));
            let after = ids();
            assert_eq!(after.map(|(link, _)| link), before.map(|(link, _)| link), "stopped after {stop:?}");
            assert!(after.iter().zip(before).all(|(after, before)| after.1 != before.1), "all run the new programs");
            let kept = (0..3000).filter(|number| last_seen(&pins, *number).is_some()).count();
            assert_eq!(kept, 3000, "stopped after {stop:?}");
            let changed = if stop == Step::Cleaned { 100 } else { 200 };
            assert_eq!(last_seen(&pins, 5), Some(changed), "stopped after {stop:?}");
            assert!(!pins.map_version("FLOWS_V4", OLD_VERSION).exists(), "stopped after {stop:?}");
        });
    }
}

#[test]
fn an_earlier_layout_that_is_not_what_its_conversion_expects_is_refused() {
    sandbox(|pins| {
        let spec = MapSpec::find("FLOWS_V4").unwrap();
        let path = pins.map_version("FLOWS_V4", OLD_VERSION);
        pin_map(Layout { value_size: 44, ..Layout::of(spec) }, &path);
        let options = Options { pins: pins.clone(), record: false, xdp: XdpMode::Generic };
        let error = Dataplane::open_with(&options, &[conversion()], &mut |_| Ok(())).unwrap_err();
        let refused = matches!(&error, OpenError::Pin(PinError::Mismatch { field: Field::ValueSize, found: 44, .. }));
        assert!(refused, "{error}");
        assert_eq!(names(&pins.maps()), ["FLOWS_V4_v0"]);
    });
}

/// Counters never go backwards while the node is up.
#[test]
fn counts_of_forwarded_packets_are_kept() {
    sandbox(|pins| {
        let spec = MapSpec::find("FORWARDS").unwrap();
        let old_pin = pins.map_version("FORWARDS", 1);
        pin_map(Layout { capacity: Some(30), ..Layout::of(spec) }, &old_pin);
        let old = RawMap::from_pin(&old_pin).unwrap();
        let counter = |packets| raw::bytes_of(&sdn_common::Counter { packets, bytes: 100 * packets }).to_owned();
        let put = |map: &RawMap, packets: u64| {
            let values = counter(packets).repeat(map.stride() / map.value_size());
            map.update(&29_u32.to_ne_bytes(), &values, Update::Any).unwrap();
        };
        let cpus = (old.stride() / old.value_size()) as u64;
        let count = |pins: &PinDirectory| {
            let sums = Table::<u32, sdn_common::Counter>::open(pins, "FORWARDS").unwrap().sums().unwrap();
            sums.into_iter().find(|(key, _)| *key == 29).unwrap().1.packets / cpus
        };
        put(&old, 7);
        let options = Options { pins: pins.clone(), record: false, xdp: XdpMode::Generic };
        Dataplane::open_with(&options, CONVERSIONS, &mut |step| {
            if step == Step::Copied {
                assert_eq!(count(&options.pins), 7);
                put(&RawMap::from_pin(&options.pins.map(spec)).unwrap(), 9);
                put(&old, 8);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(count(&pins), 9, "the new programs have counted further");
        assert!(!old_pin.exists());
    });
}

/// The conversion that ships with the next layout, from what this one's programs write.
#[cfg(feature = "layout-next")]
#[test]
fn flows_of_version_1_become_flows_of_version_2() {
    use sdn_common::flow::v1;
    use sdn_common::{Identity, Side};

    sandbox(|pins| {
        let old = v1::Flow {
            last_seen: 77,
            state: Flow::REPLIED,
            epoch: 3,
            sides: [Side { node: 1, incarnation: 2, identity: Identity::POD }, Side::default()],
            masquerade_port: Be16::new(23_000),
            ..v1::Flow::default()
        };
        for name in ["FLOWS_V4", "NEW_FLOWS_V4"] {
            let path = pins.map_version(name, 1);
            let layout = Layout::of(MapSpec::find(name).unwrap());
            pin_map(Layout { value_size: size_of::<v1::Flow>() as u32, ..layout }, &path);
            let map = RawMap::from_pin(&path).unwrap();
            map.update(raw::bytes_of(&flow_key(1)), raw::bytes_of(&old), Update::Any).unwrap();
        }
        let dataplane = open(&pins);
        assert_eq!(dataplane.opened().converted.len(), 4);
        for name in ["FLOWS_V4", "NEW_FLOWS_V4"] {
            let flows = Table::<FlowKey<Addr4>, Flow>::open(&pins, name).unwrap();
            assert_eq!(flows.entries().unwrap(), [(flow_key(1), Flow::from(old))]);
            assert!(!pins.map_version(name, 1).exists());
        }
    });
}

// === Walks and errors ===

#[test]
fn a_walk_sees_every_entry_once() {
    sandbox(|pins| {
        open(&pins);
        let flows = Table::<FlowKey<Addr4>, Flow>::open(&pins, "FLOWS_V4").unwrap();
        for number in 0..5000 {
            flows.insert(&flow_key(number), &Flow { last_seen: u64::from(number), ..Flow::default() }).unwrap();
        }
        let (mut cursor, mut seen, mut chunks) = (Cursor::default(), BTreeSet::new(), 0);
        while !cursor.ended() {
            let chunk = flows.next_chunk(&mut cursor).unwrap();
            assert!(chunk.len() <= table::CHUNK as usize);
            assert!(chunk.iter().all(|(_, flow)| seen.insert(flow.last_seen)), "an entry was seen twice");
            chunks += 1;
        }
        assert_eq!((seen.len(), flows.entries().unwrap().len()), (5000, 5000));
        assert!(chunks >= 5, "{chunks} chunks");
        assert!(flows.next_chunk(&mut cursor).unwrap().is_empty(), "the end stays the end");
        // Arrays and tries keep their place by key.
        let nodes = Table::<u32, sdn_common::Node>::open(&pins, "NODES").unwrap();
        assert_eq!(nodes.entries().unwrap().len(), sdn_common::maps::NODES as usize);
        let subnets = Table::<crate::family::Cidr<Addr4>, u32>::open(&pins, "SUBNETS_V4").unwrap();
        for third in 0..3000_u32 {
            let address = Addr4::new([10, 128 + (third >> 8) as u8, third as u8, 0]);
            subnets.insert(&crate::family::Cidr { length: 24, address }, &third).unwrap();
        }
        let found: BTreeSet<u32> = subnets.entries().unwrap().into_iter().map(|(_, index)| index).collect();
        assert_eq!(found.len(), 3000);
    });
}

#[test]
fn errors_name_map_and_key() {
    sandbox(|pins| {
        open(&pins);
        let endpoints = Table::<Addr4, sdn_common::Endpoint>::open(&pins, "ENDPOINTS_V4").unwrap();
        let address = |number: u32| Addr4::new((0x0a80_0000 + number).to_be_bytes());
        for number in 0..sdn_common::maps::ENDPOINTS {
            endpoints.insert(&address(number), &sdn_common::Endpoint::default()).unwrap();
        }
        let error = endpoints.insert(&address(5000), &sdn_common::Endpoint::default()).unwrap_err();
        assert!(error.is_full());
        assert_eq!(error.to_string(), "write to map ENDPOINTS_V4 entry 10.128.19.136: the map is full");
        assert!(!endpoints.insert_absent(&address(1), &sdn_common::Endpoint::default()).unwrap());
        let error = Table::<Addr4, u32>::open(&pins, "ENDPOINTS_V4").unwrap_err().to_string();
        let size = size_of::<sdn_common::Endpoint>().to_string();
        assert!(error.contains("ENDPOINTS_V4") && error.contains(&size), "{error}");
        let error = Table::<u32, Peer>::open(&pins, "CLOCK").unwrap_err().to_string();
        assert!(error.starts_with("open map CLOCK: "), "{error}");
    });
}

#[test]
fn an_old_program_has_ended_after_a_grace_period() {
    raw::wait_grace_period().unwrap();
}

#[test]
fn the_end_of_a_long_log_is_shown() {
    let log: String = (0..100).map(|line| format!("line {line}\n")).collect();
    let shown = tail(&log);
    assert!(shown.starts_with("line 76\n") && shown.ends_with("line 99"), "{shown}");
    assert_eq!(tail("short\n"), "short");
}
