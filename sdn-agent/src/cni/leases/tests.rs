use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

/// Tells the test binary to be the victim of [`killed_at_any_moment`], and where.
const VICTIM: &str = "CULVERT_LEASE_VICTIM";

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn open(dir: &Path, subnets: &[&str]) -> Leases {
    Leases::open(dir, &nets(subnets)).unwrap()
}

fn attachment(number: u32) -> Attachment {
    Attachment { container_id: format!("container{number}"), ifname: "eth0".into() }
}

fn lease_of(number: u32, addresses: &[IpAddr]) -> Lease {
    let attachment = attachment(number);
    let pod = LocalPod {
        host_interface: sdn_cni::protocol::host_interface_name(&attachment),
        container_id: attachment.container_id,
        ifname: attachment.ifname,
        netns: format!("/run/netns/{number}").into(),
        namespace: "shop".into(),
        name: format!("pod-{number}"),
        uid: format!("uid-{number}"),
        addresses: addresses.to_vec(),
        mac: sdn_cni::MacAddr::of_pod(addresses[0]).0,
        host_ifindex: number,
        incarnation: 1,
        mtu: 1450,
    };
    Lease { pod: Arc::new(pod), network: "culvert".into(), netns_device: 4, netns_inode: u64::from(number) }
}

fn add(leases: &Leases, number: u32) -> Result<Vec<IpAddr>, LeaseError> {
    let reservation = leases.reserve()?;
    let lease = lease_of(number, reservation.addresses());
    leases.commit(reservation, lease.clone())?;
    Ok(lease.pod.addresses.clone())
}

/// Names in the directory, without the lock.
fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != files::LOCK).collect();
    names.sort();
    names
}

#[test]
fn a_lease_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let subnets = ["10.128.2.0/23", "fd01:0:0:2::/64"];
    let leases = open(dir.path(), &subnets);
    let addresses = add(&leases, 7).unwrap();
    assert_eq!(addresses, [ip("10.128.2.2"), ip("fd01:0:0:2::2")]);
    let before = leases.all();
    drop(leases);
    assert_eq!(names(dir.path()), ["10.128.2.2_fd01:0:0:2::2_cv2fc5606871f4.json", "freed"]);
    let leases = open(dir.path(), &subnets);
    assert_eq!(leases.all(), before);
    assert_eq!(leases.find(&attachment(7)).unwrap().pod.addresses, addresses);
    assert_eq!(leases.pods().len(), 1);
    assert_eq!(add(&leases, 8).unwrap(), [ip("10.128.2.3"), ip("fd01:0:0:2::3")]);
}

#[test]
fn the_order_of_frees_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    for number in 2..=6 {
        assert_eq!(add(&leases, number).unwrap(), [ip(&format!("10.0.0.{number}"))]);
    }
    for number in [4, 2, 6] {
        leases.free(&attachment(number)).unwrap().expect("a lease");
    }
    drop(leases);
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    leases.free(&attachment(3)).unwrap();
    drop(leases);
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    let order: Vec<_> = (10..14).map(|number| add(&leases, number).unwrap()[0].to_string()).collect();
    assert_eq!(order, ["10.0.0.4", "10.0.0.2", "10.0.0.6", "10.0.0.3"]);
}

#[test]
fn both_families_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29", "fd01::/126"]);
    add(&leases, 1).unwrap();
    add(&leases, 2).unwrap();
    let error = leases.reserve().unwrap_err().to_string();
    assert!(error.contains("fd01::/126") && error.contains("2 of 2 addresses are in use"), "{error}");
    assert_eq!(leases.check_free().unwrap_err().to_string(), error);
    assert_eq!(leases.usage()[0].used, 2, "the IPv4 address that had no partner was given back");
    leases.free(&attachment(1)).unwrap();
    assert_eq!(add(&leases, 3).unwrap(), [ip("10.0.0.4"), ip("fd01::2")]);
}

#[test]
fn exhaustion_names_subnet_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/30", "10.0.1.0/30"]);
    let held = (leases.reserve().unwrap(), leases.reserve().unwrap());
    let error = leases.reserve().unwrap_err();
    assert!(matches!(error, LeaseError::Exhausted { used: 2, capacity: 2, .. }), "{error}");
    assert!(error.to_string().contains("10.0.0.0/30, 10.0.1.0/30"), "{error}");
    drop(held);
    leases.check_free().unwrap();
    leases.set_subnets(&[]);
    assert!(matches!(leases.reserve(), Err(LeaseError::NoSubnet)));
}

#[test]
fn a_changed_subnet_keeps_leases_until_they_are_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    add(&leases, 1).unwrap();
    leases.set_subnets(&nets(&["10.0.1.0/29"]));
    assert_eq!(add(&leases, 2).unwrap(), [ip("10.0.1.2")]);
    drop(leases);
    let leases = open(dir.path(), &["10.0.1.0/29"]);
    assert_eq!(leases.pods().len(), 2);
    leases.free(&attachment(1)).unwrap();
    for number in 3..7 {
        let address = add(&leases, number).unwrap();
        assert!(nets(&["10.0.1.0/29"])[0].contains(&address[0]), "{address:?} is of the old subnet");
    }
    assert!(add(&leases, 8).is_err());
}

#[test]
fn a_second_agent_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &["10.0.0.0/29"]);
    let error = Leases::open(dir.path(), &[]).unwrap_err();
    assert!(matches!(error, LeaseError::Locked { .. }), "{error}");
    drop(first);
    open(dir.path(), &[]);
}

#[test]
fn an_update_keeps_the_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    add(&leases, 1).unwrap();
    let mut changed = leases.find(&attachment(1)).unwrap();
    Arc::make_mut(&mut changed.pod).host_ifindex = 99;
    changed.netns_inode = 77;
    leases.update(changed.clone()).unwrap();
    drop(leases);
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    assert_eq!(leases.all(), [changed]);
}

#[test]
fn freeing_what_is_not_leased() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    assert_eq!(leases.free(&attachment(1)).unwrap(), None);
    add(&leases, 1).unwrap();
    assert!(leases.free(&attachment(1)).unwrap().is_some());
    assert_eq!(leases.free(&attachment(1)).unwrap(), None);
    assert_eq!(names(dir.path()), ["freed"]);
}

#[test]
fn a_lease_that_cannot_be_written_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    let reservation = leases.reserve().unwrap();
    let lease = lease_of(1, reservation.addresses());
    // A directory in the way of the rename: also root's write fails.
    let name = format!("10.0.0.2_{}.json", lease.pod.host_interface);
    fs::create_dir_all(dir.path().join(&name).join("full")).unwrap();
    let error = leases.commit(reservation, lease).unwrap_err();
    assert!(error.to_string().contains(&name), "{error}");
    assert_eq!(leases.find(&attachment(1)), None);
    // Its file could not be removed either, so the address is not free.
    assert_eq!(leases.usage()[0].used, 1);
    assert_eq!(add(&leases, 2).unwrap(), [ip("10.0.0.3")]);
}

#[test]
fn a_name_taken_by_chance() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    add(&leases, 1).unwrap();
    let reservation = leases.reserve().unwrap();
    let mut lease = lease_of(2, reservation.addresses());
    Arc::make_mut(&mut lease.pod).host_interface = leases.pods()[0].host_interface.clone();
    let error = leases.commit(reservation, lease).unwrap_err();
    assert!(error.to_string().contains("container1") && error.to_string().contains("container2"), "{error}");
    assert_eq!(leases.usage()[0].used, 1);
}

#[test]
fn damaged_files_are_put_aside_with_their_addresses() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let leases = open(dir.path(), &["10.0.0.0/29"]);
        add(&leases, 1).unwrap();
        fs::read_to_string(dir.path().join(&names(dir.path())[0])).unwrap()
    };
    let interface = lease_of(1, &[ip("10.0.0.2")]).pod.host_interface.clone();
    let half = whole[..whole.len() / 2].to_owned();
    let zeroes = "\0".repeat(whole.len());
    let newer = whole.replace("\"version\": 1", "\"version\": 2");
    let other = whole.replace("10.0.0.2", "10.0.0.3");
    let rows: &[(&str, &str)] = &[
        ("", "empty"),
        (&zeroes, "empty"),
        (&half, "damaged"),
        ("[]", "damaged"),
        ("\u{feff}{}", "damaged"),
        (&newer, "version 2"),
        (&other, "has the content of 10.0.0.3"),
    ];
    for (content, problem) in rows {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("10.0.0.2_{interface}.json");
        fs::write(dir.path().join(&name), content).unwrap();
        for reopened in [false, true] {
            let leases = open(dir.path(), &["10.0.0.0/29"]);
            assert!(leases.pods().is_empty());
            let quarantined = leases.quarantined();
            let [bad] = &quarantined[..] else { panic!("{quarantined:?}") };
            assert_eq!(bad.addresses, [ip("10.0.0.2")]);
            assert_eq!(bad.host_interface.as_deref(), Some(interface.as_str()));
            assert_eq!(bad.file, dir.path().join(format!("{name}.bad")));
            assert!(reopened || bad.problem.contains(problem), "{content:?}: {}", bad.problem);
            assert_eq!(leases.usage()[0].used, 1, "its address stays in use");
            assert_ne!(leases.reserve().unwrap().addresses(), [ip("10.0.0.2")]);
        }
        let leases = open(dir.path(), &["10.0.0.0/29"]);
        let file = leases.quarantined()[0].file.clone();
        leases.release_quarantined(&file).unwrap();
        leases.release_quarantined(&file).unwrap();
        assert_eq!(leases.usage()[0].used, 0);
        assert!(leases.quarantined().is_empty());
        assert_eq!(names(dir.path()), ["freed"]);
    }
}

#[test]
fn strange_files_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    add(&leases, 1).unwrap();
    drop(leases);
    let whole = fs::read(dir.path().join(&names(dir.path())[0])).unwrap();
    for name in
        ["README", "..json", ".json", "_.json", "not-an-address_cv1.json", ".new-10.0.0.5_cvabc.json", "x.json.bad"]
    {
        fs::write(dir.path().join(name), &whole).unwrap();
    }
    fs::write(dir.path().join("10.0.0.9_10.0.0.9_cv000000000000.json"), &whole).unwrap();
    fs::create_dir(dir.path().join("10.0.0.6_cvdir.json")).unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    assert_eq!(leases.pods().len(), 1);
    assert_eq!(leases.usage()[0].used, 2, "the lease, and the directory's name");
    assert!(names(dir.path()).iter().all(|name| !name.starts_with(".new-")));
    assert!(names(dir.path()).contains(&"README".into()));
}

#[test]
fn two_files_for_one_address_or_one_container() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    add(&leases, 1).unwrap();
    // As if somebody had restored a backup: the same container elsewhere, and another container on the same address.
    leases.0.files.write(&lease_of(1, &[ip("10.0.0.5")])).unwrap();
    leases.0.files.write(&lease_of(2, &[ip("10.0.0.2")])).unwrap();
    drop(leases);
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    assert_eq!(leases.pods().len(), 1);
    assert_eq!(leases.quarantined().len(), 2);
    let problems: String = leases.quarantined().iter().map(|bad| bad.problem.clone()).collect();
    assert!(problems.contains("second lease of eth0 of container container1"), "{problems}");
    assert!(problems.contains("holds 10.0.0.2"), "{problems}");
    for bad in leases.quarantined() {
        leases.release_quarantined(&bad.file).unwrap();
    }
    assert_eq!(leases.usage()[0].used, 1, "the address of a live lease is not given back with the quarantined one");
    let order: Vec<_> = (10..14).map(|number| add(&leases, number).unwrap()[0]).collect();
    assert_eq!(order, [ip("10.0.0.3"), ip("10.0.0.4"), ip("10.0.0.6"), ip("10.0.0.5")]);
}

#[test]
fn a_torn_order_loses_its_end_only() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("freed"), "10.0.0.4\n\u{0}\u{0}garbage\n10.0.0.2\n10.0.0.14").unwrap();
    let leases = open(dir.path(), &["10.0.0.0/28"]);
    let order: Vec<_> = leases.memory().pool.freed().collect();
    assert_eq!(order, [ip("10.0.0.4"), ip("10.0.0.2")]);
    assert_eq!(fs::read_to_string(dir.path().join("freed")).unwrap(), "10.0.0.4\n10.0.0.2\n");
}

#[test]
fn the_order_is_shortened_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    // Reservations that come to nothing, as when a runtime tries a broken container again and again.
    for _ in 0..1500 {
        leases.reserve().unwrap();
    }
    let lines = fs::read_to_string(dir.path().join("freed")).unwrap().lines().count();
    assert!(lines < 1100, "{lines}");
    let order: Vec<_> = leases.memory().pool.freed().collect();
    drop(leases);
    let leases = open(dir.path(), &["10.0.0.0/29"]);
    assert_eq!(leases.memory().pool.freed().collect::<Vec<_>>(), order);
}

#[test]
fn many_threads_get_different_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let leases = open(dir.path(), &["10.0.0.0/24", "fd01::/64"]);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let leases = &leases;
            scope.spawn(move || {
                for round in 0..30 {
                    let number = thread * 1000 + round;
                    add(leases, number).unwrap();
                    if round % 3 == 0 {
                        leases.free(&attachment(number)).unwrap().expect("a lease");
                    }
                }
            });
        }
    });
    let pods = leases.pods();
    let distinct: BTreeSet<IpAddr> = pods.iter().flat_map(|pod| pod.addresses.clone()).collect();
    assert_eq!((pods.len(), distinct.len()), (8 * 20, 2 * 8 * 20));
    let order: Vec<_> = leases.memory().pool.freed().collect();
    drop(leases);
    let leases = open(dir.path(), &["10.0.0.0/24", "fd01::/64"]);
    assert_eq!(leases.pods(), pods);
    assert_eq!(leases.memory().pool.freed().collect::<Vec<_>>(), order, "disk and memory agree about the order");
}

/// What a test does to address management.
#[derive(Clone, Debug)]
enum Step {
    Reserve,
    /// The nth of the reservations.
    Commit(usize),
    Drop(usize),
    /// The nth of the leases.
    Free(usize),
    /// The process dies: reservations are forgotten, not given back; what was being written is cut at some point.
    Crash {
        temporary: bool,
    },
    /// The node gets its other subnet, or the first one back.
    Subnet(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Reserve),
        4 => any::<usize>().prop_map(Step::Commit),
        1 => any::<usize>().prop_map(Step::Drop),
        3 => any::<usize>().prop_map(Step::Free),
        1 => any::<bool>().prop_map(|temporary| Step::Crash { temporary }),
        1 => any::<bool>().prop_map(Step::Subnet),
    ]
}

/// Address management as it is meant: a queue, the front is next.
#[derive(Default)]
struct Model {
    queue: VecDeque<IpAddr>,
    /// As it was on disk: without what is reserved now.
    durable: VecDeque<IpAddr>,
    reserved: Vec<IpAddr>,
    leased: Vec<(u32, IpAddr)>,
}

const SUBNETS: [&str; 2] = ["10.0.0.0/28", "10.0.1.0/29"];

impl Model {
    fn new() -> Self {
        let hosts = |subnet: u8, last: u8| (2..=last).map(move |host| IpAddr::from([10, 0, subnet, host]));
        let queue: VecDeque<IpAddr> = hosts(0, 14).chain(hosts(1, 6)).collect();
        Self { durable: queue.clone(), queue, ..Self::default() }
    }

    fn next(&self, subnet: &IpNet) -> Option<IpAddr> {
        self.queue.iter().copied().find(|address| subnet.contains(address))
    }

    fn give_back(&mut self, address: IpAddr) {
        self.queue.push_back(address);
        self.durable.retain(|other| *other != address);
        self.durable.push_back(address);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_twice_and_oldest_first(steps in prop::collection::vec(step(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let mut subnet = SUBNETS[0];
        let mut leases = open(dir.path(), &[subnet]);
        let mut model = Model::new();
        let mut reservations: Vec<Reservation> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let number = number as u32;
            match step {
                Step::Reserve => {
                    let want = model.next(&nets(&[subnet])[0]);
                    match leases.reserve() {
                        Ok(reservation) => {
                            prop_assert_eq!(reservation.addresses(), &[want.expect("the model has none left")]);
                            model.queue.retain(|address| Some(*address) != want);
                            model.reserved.extend(want);
                            reservations.push(reservation);
                        }
                        Err(error) => prop_assert!(want.is_none(), "{}", error),
                    }
                }
                Step::Commit(nth) if !reservations.is_empty() => {
                    let reservation = reservations.remove(nth % reservations.len());
                    let address = model.reserved.remove(nth % model.reserved.len());
                    leases.commit(reservation, lease_of(number, &[address])).unwrap();
                    model.durable.retain(|other| *other != address);
                    model.leased.push((number, address));
                }
                Step::Drop(nth) if !reservations.is_empty() => {
                    drop(reservations.remove(nth % reservations.len()));
                    let address = model.reserved.remove(nth % model.reserved.len());
                    model.give_back(address);
                }
                Step::Free(nth) if !model.leased.is_empty() => {
                    let (number, address) = model.leased.remove(nth % model.leased.len());
                    prop_assert!(leases.free(&attachment(number)).unwrap().is_some());
                    model.give_back(address);
                }
                Step::Crash { temporary } => {
                    for reservation in reservations.drain(..) {
                        reservation.keep();
                    }
                    model.reserved.clear();
                    model.queue = model.durable.clone();
                    drop(leases);
                    if temporary {
                        fs::write(dir.path().join(".new-10.0.0.9_cv0.json"), "{\"version\"").unwrap();
                        let mut freed = fs::OpenOptions::new().append(true).open(dir.path().join("freed")).unwrap();
                        freed.write_all(b"10.0.0.1").unwrap();
                    }
                    leases = open(dir.path(), &[subnet]);
                }
                Step::Subnet(second) => {
                    subnet = SUBNETS[usize::from(second)];
                    leases.set_subnets(&nets(&[subnet]));
                }
                Step::Commit(_) | Step::Drop(_) | Step::Free(_) => {}
            }
            let mut got: Vec<IpAddr> = leases.pods().iter().flat_map(|pod| pod.addresses.clone()).collect();
            let mut want: Vec<IpAddr> = model.leased.iter().map(|(_, address)| *address).collect();
            got.sort();
            want.sort();
            prop_assert_eq!(got, want);
        }
    }
}

/// Kills a process in the middle of its work, again and again: what it said it had done is on disk, and nothing is there twice.
#[test]
fn killed_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let mut leased: BTreeSet<u32> = BTreeSet::new();
    let mut first = 0;
    for round in 0..25 {
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim.args(["--exact", "cni::leases::tests::victim", "--ignored", "--nocapture", "--test-threads=1"]);
        victim.env(VICTIM, format!("{first} {}", dir.path().display()));
        let mut victim = victim.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        // Some rounds die early, some late; at which point of a write is left to chance.
        let mut left = 3 + 7 * round;
        let mut doubtful = None;
        while let Some(Ok(line)) = lines.next() {
            let Some((word, number)) = line.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u32>() else { continue };
            match word {
                "add" | "free" => doubtful = Some(number),
                "added" => assert!(leased.insert(number)),
                "freed" => assert!(leased.remove(&number)),
                _ => continue,
            }
            first = first.max(number + 1);
            left -= 1;
            if left == 0 {
                victim.kill().unwrap();
            }
        }
        victim.wait().unwrap();
        let leases = open(dir.path(), &["10.0.0.0/26"]);
        assert!(leases.quarantined().is_empty(), "{:?}", leases.quarantined());
        let mut found: BTreeSet<u32> = leases.pods().iter().map(|pod| pod.host_ifindex).collect();
        let addresses: BTreeSet<IpAddr> = leases.pods().iter().flat_map(|pod| pod.addresses.clone()).collect();
        assert_eq!(addresses.len(), found.len(), "an address is there twice");
        if let Some(number) = doubtful {
            // It died between the beginning and the end of this one.
            if found.contains(&number) {
                leased.insert(number)
            } else {
                leased.remove(&number)
            };
        }
        assert_eq!(std::mem::take(&mut found), leased, "round {round}");
    }
}

/// Adds and frees for ever, and says so before and after.
#[test]
#[ignore = "not a test: the process that killed_at_any_moment kills"]
fn victim() {
    let Ok(task) = std::env::var(VICTIM) else { return };
    let (first, dir) = task.split_once(' ').unwrap();
    let leases = open(Path::new(dir), &["10.0.0.0/26"]);
    let mut held: VecDeque<u32> = leases.pods().iter().map(|pod| pod.host_ifindex).collect();
    let say = |word: &str, number: u32| {
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{word} {number}").and_then(|()| stdout.flush()).unwrap();
    };
    println!();
    for number in first.parse::<u32>().unwrap().. {
        if held.len() > 40 {
            let oldest = held.pop_front().unwrap();
            say("free", oldest);
            leases.free(&attachment(oldest)).unwrap().expect("a lease");
            say("freed", oldest);
        }
        say("add", number);
        add(&leases, number).unwrap();
        say("added", number);
        held.push_back(number);
    }
}
