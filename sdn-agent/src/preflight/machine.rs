//! What the checks look at: files below a root, devices, and what other programs print. Tests make their own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::config::Config;
use crate::kernel::capabilities::{self, KEPT};
use crate::kernel::netlink::{Link, Netlink, Uplink, find_uplink};

/// A machine, as far as it matters here.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    /// Network devices; `None` if they cannot be listed.
    pub(super) links: Option<Vec<Link>>,
    /// The uplink, or why there is none.
    pub(super) uplink: Result<Uplink, String>,
    /// The first capability that is missing, with what it is needed for.
    pub(super) missing_capability: Option<String>,
    /// May mount.
    pub(super) can_mount: bool,
    /// What `nft list ruleset`, `iptables-save` and `ip6tables-save` print, as far as they are there.
    pub(super) rules: Vec<String>,
}

impl Machine {
    /// The machine this runs on.
    pub fn this(config: &Config) -> Self {
        let (links, uplink) = devices(config);
        let can_mount = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).unwrap_or(false);
        Self {
            links,
            uplink,
            missing_capability: capabilities::require(&KEPT).err().map(|error| error.to_string()),
            can_mount,
            rules: rules(),
            ..Self::files()
        }
    }

    /// Its files only, for checks that look at nothing else.
    pub(super) fn files() -> Self {
        Self::at(Path::new("/"))
    }

    /// A machine whose files are below a directory.
    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            links: None,
            uplink: Err("nobody has looked".to_owned()),
            missing_capability: None,
            can_mount: false,
            rules: Vec::new(),
        }
    }

    /// The text of a file, with its path as on the machine.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.below(path)).ok()
    }

    /// Whether something is there.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.below(path).exists()
    }

    /// Whether the kernel has a function; `None` if it does not say. Some ten MiB are read, line by line.
    pub(super) fn has_symbol(&self, name: &str) -> Option<bool> {
        let mut lines =
            BufReader::new(File::open(self.below("/proc/kallsyms")).ok()?).lines().map_while(Result::ok).peekable();
        lines.peek()?;
        Some(lines.any(|line| line.split_whitespace().nth(2) == Some(name)))
    }

    /// Names in a directory, in order; empty if there is none.
    pub(super) fn names(&self, path: &Path) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path.strip_prefix("/").unwrap_or(path)));
        let names = entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

fn devices(config: &Config) -> (Option<Vec<Link>>, Result<Uplink, String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let Ok(runtime) = runtime else { return (None, Err("no runtime could be started".to_owned())) };
    runtime.block_on(async {
        let netlink = match Netlink::open() {
            Ok(netlink) => netlink,
            Err(error) => return (None, Err(error.to_string())),
        };
        let uplink = find_uplink(&netlink, config.uplink.as_deref()).await;
        (netlink.list_links().await.ok(), uplink.unwrap_or_else(|error| Err(error.to_string())))
    })
}

/// What firewall tools print. They are asked only where they are installed; none is needed.
fn rules() -> Vec<String> {
    let print = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // iptables-save loads modules that were not there: only where the kernel says that its tables are in use.
    let legacy = ["ip_tables_names", "ip6_tables_names"]
        .map(|file| fs::read_to_string(Path::new("/proc/net").join(file)).is_ok_and(|names| !names.trim().is_empty()));
    let saves = ["iptables-save", "ip6tables-save"].into_iter().zip(legacy).filter(|(_, used)| *used);
    let legacy = saves.filter_map(|(program, _)| print(program, &[]));
    print("nft", &["list", "ruleset"]).into_iter().chain(legacy).collect()
}
