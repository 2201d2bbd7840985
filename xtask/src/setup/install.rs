//! The hands of `setup`: apt-get and cargo install.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::Want;
use crate::console::{self, Tone};
use crate::privilege::{Privilege, executable};
use crate::toolchain::{LINKER_VERSION, LLVM_MAJOR};

/// Packages that start a service of their own when they are installed, and its unit: we want the program alone.
const SERVICES: [(&str, &str); 2] = [("knot", "knot.service"), ("unbound", "unbound.service")];

/// Installs packages in one go, then bpf-linker, which may need some of them.
pub fn install(wants: &[Want]) -> Result<()> {
    let packages: Vec<&str> = wants.iter().filter_map(Want::package).collect();
    if !packages.is_empty() {
        install_packages(&packages).map_err(|error| anyhow!("{error:#}{}", by_hand(wants)))?;
    }
    if wants.iter().any(|want| matches!(want, Want::Linker { .. })) {
        install_linker().map_err(|error| anyhow!("{error:#}{}", by_hand(wants)))?;
    }
    Ok(())
}

/// After installing, everything has to be found. What is not is this machine's own matter.
pub fn explain_leftovers(still_missing: &[Want]) -> Result<()> {
    if still_missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = still_missing.iter().map(|want| format!("  {want}")).collect();
    bail!("installed, and yet not found:\n{}{}", list.join("\n"), by_hand(still_missing))
}

impl Want {
    fn package(&self) -> Option<&str> {
        match self {
            Self::Package { name, .. } => Some(name),
            Self::Linker { .. } => None,
        }
    }
}

fn install_packages(packages: &[&str]) -> Result<()> {
    if executable("apt-get").is_none() {
        bail!("this machine has no apt-get: install the equivalent of {} by hand", packages.join(" "));
    }
    let privilege = Privilege::find(&format!("to install {}", packages.join(" ")))?;
    let apt = |arguments: &[&str]| {
        let mut command = privilege.command("apt-get", &[("DEBIAN_FRONTEND", "noninteractive".into())]);
        command.args(["-o", "Dpkg::Use-Pty=0", "-y"]).args(arguments);
        command
    };
    // An outdated list names files that the mirror no longer has.
    console::quietly("apt-get update", &mut apt(&["update"]))?;
    for (_, unit) in SERVICES.iter().filter(|(package, _)| packages.contains(package)) {
        keep_off(unit, privilege)?;
    }
    let mut arguments = vec!["install", "--no-install-recommends"];
    arguments.extend(packages);
    console::quietly(&format!("apt-get install {}", packages.join(" ")), &mut apt(&arguments))
}

/// Masks a unit before its package comes, where there is systemd: it would take port 53, now and after every boot.
fn keep_off(unit: &str, privilege: Privilege) -> Result<()> {
    let mask = Path::new("/etc/systemd/system").join(unit);
    // A link to /dev/null is there, too; somebody's own unit stays as it is.
    if !Path::new("/run/systemd/system").is_dir() || mask.symlink_metadata().is_ok() {
        return Ok(());
    }
    console::say(Tone::Quiet, format!("{unit} stays off: systemctl unmask {unit} undoes that"));
    let mut command = privilege.command("systemctl", &[]);
    console::quietly(&format!("systemctl mask {unit}"), command.args(["mask", unit]))
}

fn install_linker() -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["install", "bpf-linker", "--locked", "--force", "--no-default-features"])
        .args(["--version", &format!("~{LINKER_VERSION}"), "--features", &format!("llvm-{LLVM_MAJOR}")])
        // Our own build's flags and wrappers are not meant for it.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("PATH", path_with_llvm()?);
    console::quietly(&format!("cargo install bpf-linker {LINKER_VERSION} (a minute or two)"), &mut command)
}

/// bpf-linker's build asks the first llvm-config on PATH where libLLVM is.
fn path_with_llvm() -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(llvm_directory()).chain(env::split_paths(&path))).context("cannot extend PATH")
}

/// Where Debian puts the llvm-config of the LLVM that we want.
pub fn llvm_directory() -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{LLVM_MAJOR}/bin"))
}

/// What to do without us, where the toolchain for eBPF is part of what is missing.
fn by_hand(wants: &[Want]) -> String {
    let toolchain = |want: &Want| want.package().is_none_or(|name| name.contains("rust") || name.contains("llvm"));
    if !wants.iter().any(toolchain) {
        return String::new();
    }
    format!(
        "\nBy hand, the compiler for eBPF is Debian's rustc-web, cargo-web and libstd-rust-web-dev-bpf, or rustup's nightly:\n  \
         rustup toolchain install nightly --component rust-src\nThe linker wants LLVM {LLVM_MAJOR} with its llvm-config first \
         on PATH:\n  cargo install bpf-linker --version ~{LINKER_VERSION} --no-default-features --features llvm-{LLVM_MAJOR}"
    )
}
