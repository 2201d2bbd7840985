//! The checks, in the order in which a node's start meets them.

use std::collections::BTreeSet;

use super::firewall::Firewall;
use super::{Finding, Machine, Outcome};
use crate::app::overlay::DEVICE;
use crate::cni::install::CONFLIST;
use crate::config::{Config, PortRange};

/// Oldest kernel with TCX links (bpf: Add generic attach/detach/query API for multi-progs, v6.6).
const OLDEST_KERNEL: (u32, u32) = (6, 6);
/// IPv6's smallest link (RFC 8200 §5) within the tunnel, over IPv6.
const SMALLEST_UPLINK: u32 = 1280 + 70;
/// So many names of a longer list are shown.
const SHOWN: usize = 4;

/// All checks.
pub(super) fn all(config: &Config, machine: &Machine) -> Vec<Finding> {
    let firewall = Firewall::read(&machine.rules, config.tunnel.port);
    let mut findings = vital(config, machine);
    findings.extend([
        tcx(machine),
        capabilities(machine),
        bpffs(config, machine),
        cgroup(machine),
        uplink(machine),
        networks(config, machine),
        tunnel_port(config, machine),
        tunnel_input(config, machine, &firewall),
        masquerade_ports(config, machine),
        reverse_path(machine),
        other_cni(config, machine),
        kube_proxy(machine, &firewall),
        forward_policy(machine, &firewall),
    ]);
    findings
}

/// What programs cannot be loaded without.
pub(super) fn vital(_config: &Config, machine: &Machine) -> Vec<Finding> {
    vec![kernel(machine), btf(machine)]
}

fn outcome(good: bool) -> Outcome {
    if good { Outcome::Ok } else { Outcome::Bad }
}

fn kernel(machine: &Machine) -> Finding {
    let (major, minor) = OLDEST_KERNEL;
    let release = machine.read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    match kernel_version(&release) {
        Some(version) => Finding::required("kernel", outcome(version >= OLDEST_KERNEL), format!("Linux {release}")),
        None => Finding::required("kernel", Outcome::Unknown, format!("release {release:?}")),
    }
    .or(format!("Linux {major}.{minor} or later is needed: it is the first with TCX links"))
}

fn tcx(machine: &Machine) -> Finding {
    let advice = "use a kernel with CONFIG_NET_CLS_ACT: programs are attached to devices by TCX links";
    match machine.has_symbol("tcx_link_attach") {
        Some(true) => Finding::required("TCX", Outcome::Ok, "the kernel has it"),
        Some(false) => Finding::required("TCX", Outcome::Bad, "the kernel was built without it").or(advice),
        None => Finding::required("TCX", Outcome::Unknown, "/proc/kallsyms cannot be read"),
    }
}

/// `6.18.44-fc-v595` → (6, 18)
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn btf(machine: &Machine) -> Finding {
    let path = "/sys/kernel/btf/vmlinux";
    Finding::required(
        "BTF",
        outcome(machine.exists(path)),
        if machine.exists(path) { path } else { "the kernel has none" },
    )
    .or("use a kernel with CONFIG_DEBUG_INFO_BTF, and mount /sys")
}

fn capabilities(machine: &Machine) -> Finding {
    let (outcome, found) = match &machine.missing_capability {
        None => (Outcome::Ok, "all that are needed"),
        Some(missing) => (Outcome::Bad, missing.as_str()),
    };
    Finding::required("capabilities", outcome, found).or("run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
}

/// `(mount point, type)` of every mount.
fn mounts(machine: &Machine) -> Vec<(String, String)> {
    let text = machine.read("/proc/self/mounts").unwrap_or_default();
    let mount = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    text.lines().filter_map(mount).collect()
}

fn bpffs(config: &Config, machine: &Machine) -> Finding {
    let pins = &config.paths.bpffs;
    let mounted = mounts(machine).into_iter().filter(|(point, _)| pins.starts_with(point));
    // The longest mount point above the directory is the one it lies in; of equals the last one hides the others.
    let nearest = mounted.max_by_key(|(point, _)| point.len());
    let offered =
        machine.read("/proc/filesystems").is_some_and(|list| list.lines().any(|line| line.ends_with("\tbpf")));
    let (outcome, found) = match nearest {
        Some((point, kind)) if kind == "bpf" => (Outcome::Ok, format!("mounted on {point}")),
        _ if offered && machine.can_mount => (Outcome::Ok, format!("{} will be mounted", pins.display())),
        _ if offered => (Outcome::Bad, format!("{} is not in one", pins.display())),
        _ => (Outcome::Bad, "this kernel has none".to_owned()),
    };
    Finding::required("bpffs", outcome, found)
        .or("mount one: `mount -t bpf bpf /sys/fs/bpf`; in a container, mount the host's with propagation")
}

fn cgroup(machine: &Machine) -> Finding {
    let found = mounts(machine).into_iter().find(|(_, kind)| kind == "cgroup2").map(|(point, _)| point);
    let text = found.as_deref().unwrap_or("it is not mounted");
    Finding::advised("cgroup v2", outcome(found.is_some()), text)
        .or("mount it: programs that translate services at connect() are attached there")
}

fn uplink(machine: &Machine) -> Finding {
    match &machine.uplink {
        Ok(uplink) => {
            let addresses: Vec<String> = uplink.addresses.iter().map(ToString::to_string).collect();
            let found = format!("{}, MTU {}, {}", uplink.name, uplink.mtu, addresses.join(" "));
            let good = uplink.mtu >= SMALLEST_UPLINK && uplink.running;
            let why = format!("it has to be up, with an MTU of at least {SMALLEST_UPLINK}");
            Finding::advised("uplink", outcome(good), found).or(why)
        }
        Err(why) => Finding::advised("uplink", Outcome::Bad, why.clone())
            .or("the agent waits for one: add a default route, or set uplink"),
    }
}

fn networks(config: &Config, machine: &Machine) -> Finding {
    let cidrs: Vec<String> = config.cluster_networks.iter().map(|network| network.cidr().to_string()).collect();
    let uplink = machine.uplink.as_ref().map(|uplink| uplink.addresses.as_slice()).unwrap_or_default();
    let networks: Vec<_> = uplink.iter().map(|net| ("network of the uplink", net.trunc())).collect();
    match config.cluster_networks.check_apart(&networks) {
        Ok(()) => Finding::required("cluster networks", Outcome::Ok, cidrs.join(" ")),
        Err(error) => Finding::required("cluster networks", Outcome::Bad, error.to_string())
            .or("choose others by the setting cluster-network"),
    }
}

/// Local ports of the sockets in `/proc/net/FILE`; of TCP only the listening ones.
fn local_ports(machine: &Machine, file: &str) -> BTreeSet<u16> {
    let text = machine.read(&format!("/proc/self/net/{file}")).unwrap_or_default();
    let port = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        let counts = !file.starts_with("tcp") || state == "0A";
        counts.then(|| u16::from_str_radix(local.rsplit(':').next()?, 16).ok()).flatten()
    };
    text.lines().skip(1).filter_map(port).collect()
}

fn tunnel_port(config: &Config, machine: &Machine) -> Finding {
    let port = config.tunnel.port;
    let advice =
        "remove the other device or stop the process (`ss -ulpn`), or choose another port by vxlan-port on all nodes";
    let devices = machine.links.iter().flatten();
    let ours = devices.clone().any(|link| link.name == DEVICE);
    let other = devices.filter(|link| link.name != DEVICE).find(|link| link.vxlan.is_some_and(|v| v.port == port));
    let used = ["udp", "udp6"].iter().any(|file| local_ports(machine, file).contains(&port));
    let (outcome, found) = match (other, used) {
        (Some(other), _) => (Outcome::Bad, format!("UDP port {port} is that of VXLAN device {}", other.name)),
        (None, true) if ours => (Outcome::Ok, format!("UDP port {port} is {DEVICE}'s")),
        (None, true) => (Outcome::Bad, format!("UDP port {port} is in use")),
        (None, false) => (Outcome::Ok, format!("UDP port {port} is free")),
    };
    Finding::required("tunnel port", outcome, found).or(advice)
}

fn tunnel_input(config: &Config, machine: &Machine, firewall: &Firewall) -> Finding {
    let port = config.tunnel.port;
    let (outcome, found) = match firewall.input_drops.first() {
        _ if machine.rules.is_empty() => (Outcome::Unknown, "no firewall tool to ask".to_owned()),
        None => (Outcome::Ok, "nothing is dropped by default".to_owned()),
        Some(chain) if firewall.names_port => {
            (Outcome::Ok, format!("{chain} drops by default; a rule names port {port}"))
        }
        Some(chain) => (Outcome::Bad, format!("{chain} drops by default, and no rule names UDP port {port}")),
    };
    Finding::advised("tunnel through the firewall", outcome, found)
        .or(format!("the tunnel arrives at the node as UDP to port {port}: accept it from the other nodes"))
}

fn masquerade_ports(config: &Config, machine: &Machine) -> Finding {
    let check = "masquerade ports";
    let Some(range) = config.masquerade else {
        return Finding::advised(check, Outcome::Ok, "masquerading is off");
    };
    let files = ["tcp", "tcp6", "udp", "udp6"];
    let inside = |port: &u16| PortRange::new(*port, *port).is_some_and(|port| range.overlaps(port));
    let taken: BTreeSet<u16> = files.iter().flat_map(|file| local_ports(machine, file)).filter(inside).collect();
    let found = match taken.len() {
        0 => format!("{range}: no socket of the node is in it"),
        _ => format!("{range}: sockets of the node use {}", list(taken.iter().map(ToString::to_string))),
    };
    Finding::advised(check, outcome(taken.is_empty()), found).or(
        "replies to pods could reach these sockets, and the other way round: choose another range by masquerade-ports",
    )
}

fn reverse_path(machine: &Machine) -> Finding {
    let value = machine.read("/proc/sys/net/ipv4/conf/all/rp_filter");
    match value.as_deref().map(str::trim) {
        Some("0" | "2") => Finding::advised("reverse path filter", Outcome::Ok, "not strict for all devices"),
        // The kernel takes the maximum of this and the device's own, so culvert0's 0 does not help. What it carries comes from the
        // cluster networks, which are routed to it: the strict check holds. On an uplink beside another it may not.
        Some("1") => Finding::advised(
            "reverse path filter",
            Outcome::Ok,
            "strict: holds for the overlay, whose networks are routed to it",
        ),
        other => Finding::advised(
            "reverse path filter",
            Outcome::Unknown,
            format!("net.ipv4.conf.all.rp_filter is {other:?}"),
        )
        .or("mount /proc/sys"),
    }
}

fn other_cni(config: &Config, machine: &Machine) -> Finding {
    let directory = &config.cni.conf_dir;
    // What container runtimes take for configurations, and in which order.
    let is_config = |name: &String| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end));
    let others: Vec<String> =
        machine.names(directory).into_iter().filter(is_config).filter(|n| n != CONFLIST).collect();
    let first: Vec<&String> = others.iter().filter(|name| name.as_str() < CONFLIST).collect();
    let found = match (others.len(), first.len()) {
        (0, _) => format!("none in {}", directory.display()),
        (_, 0) => format!("{} in {}: after {CONFLIST}, not used", list(others.iter().cloned()), directory.display()),
        _ => format!("{} in {}: before {CONFLIST}", list(first.iter().map(ToString::to_string)), directory.display()),
    };
    Finding::advised("other CNI configurations", outcome(first.is_empty()), found)
        .or("runtimes use the first file only: pods would get the other network. Remove it with the pods that it made")
}

fn kube_proxy(machine: &Machine, firewall: &Firewall) -> Finding {
    let mut traces = firewall.kube_proxy.clone();
    traces
        .extend(machine.links.iter().flatten().filter(|link| link.name == "kube-ipvs0").map(|link| link.name.clone()));
    let (outcome, found) = match traces.len() {
        0 if machine.rules.is_empty() => (Outcome::Unknown, "no firewall tool to ask".to_owned()),
        0 => (Outcome::Ok, "none".to_owned()),
        count => (Outcome::Bad, format!("{count} chains or devices: {}", list(traces.into_iter()))),
    };
    Finding::advised("leftovers of kube-proxy", outcome, found).or(
        "they translate services a second time: stop kube-proxy, then `kube-proxy --cleanup` or restart the machine",
    )
}

fn forward_policy(machine: &Machine, firewall: &Firewall) -> Finding {
    let (outcome, found) = match firewall.forward_drops.len() {
        _ if machine.rules.is_empty() => (Outcome::Unknown, "no firewall tool to ask".to_owned()),
        0 => (Outcome::Ok, "nothing is dropped by default".to_owned()),
        _ => (Outcome::Ok, format!("{}: pods' packets pass before it", list(firewall.forward_drops.iter().cloned()))),
    };
    Finding::advised("firewall for forwarded traffic", outcome, found)
        .or("none is needed; `nft list ruleset` would show rules that drop what other programs forward")
}

/// The first few, and how many more.
fn list(mut names: impl Iterator<Item = String>) -> String {
    let shown: Vec<String> = names.by_ref().take(SHOWN).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
