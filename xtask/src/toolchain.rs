//! Finds what compiles the eBPF programs: a compiler with a `core` for the kernel's target, and bpf-linker.
//!
//! One file with two users: `cargo xtask` installs what is missing here, and sdn-agent's build script compiles with what
//! is found. It therefore needs nothing but the standard library.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The eBPF virtual machine, little-endian, as every supported node is.
pub const TARGET: &str = "bpfel-unknown-none";

/// Bitcode is read by the same LLVM or a newer one, so no compiler may be ahead of the LLVM that bpf-linker is built with.
pub const LLVM_MAJOR: u32 = 22;

/// The release series of bpf-linker that the build is tried with.
pub const LINKER_VERSION: &str = "0.13";

/// The oldest rustc that the workspace compiles with (`rust-version` in Cargo.toml).
const OLDEST_RUSTC: (u32, u32) = (1, 95);

/// Everything needed to build the kernel object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    pub compiler: Compiler,
    pub linker: Linker,
}

/// A cargo and a rustc that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    pub cargo: PathBuf,
    pub rustc: PathBuf,
    /// As rustc prints it, for people.
    pub version: String,
    pub core: Core,
}

/// Where the compiler has its `core` for [`TARGET`] from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// Shipped ready to link: Debian's `libstd-rust-web-dev-bpf`.
    Precompiled,
    /// Compiled along with the programs: a rustup nightly with `rust-src`.
    FromSource,
}

/// bpf-linker: links LLVM bitcode into one ELF object with BTF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linker {
    pub path: PathBuf,
    /// As bpf-linker prints it, for people.
    pub version: String,
}

/// What stands between this machine and a kernel object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// No compiler qualifies; each candidate with what it lacks.
    Compiler(Vec<String>),
    /// No bpf-linker of the right series; what was found instead, if anything.
    Linker(String),
}

impl Toolchain {
    /// The toolchain on this machine, or what is missing from it.
    pub fn find() -> Result<Self, Missing> {
        Ok(Self { compiler: Compiler::find()?, linker: Linker::find()? })
    }

    /// `PROGRAM SUBCOMMAND` for [`TARGET`], where the program is this toolchain's cargo or what stands in for it, with the
    /// flags that every build of the object has and none of the flags that belong to the cargo that started us. `arch` is
    /// the machine whose registers and structures the programs will see.
    pub fn cargo(&self, program: &Path, subcommand: &str, arch: &str) -> Command {
        let mut command = Command::new(program);
        command.arg(subcommand).args(["--target", TARGET]);
        if self.compiler.core == Core::FromSource {
            command.arg("-Zbuild-std=core");
        }
        for (name, _) in env::vars_os().filter(|(name, _)| is_of_outer_build(name)) {
            command.env_remove(name);
        }
        command
            .env("RUSTC", &self.compiler.rustc)
            // aya-ebpf uses unstable features of the compiler, -Zbuild-std is one of cargo.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags(arch).join("\x1f"));
        command
    }

    fn rustflags(&self, arch: &str) -> Vec<String> {
        vec![
            format!("--cfg=bpf_target_arch=\"{arch}\""),
            // What bpf-linker makes BTF of, in every crate that takes part.
            "-Cdebuginfo=2".into(),
            format!("-Clinker={}", self.linker.path.display()),
            "-Clink-arg=--btf".into(),
            // 32-bit operations and jumps; kernels know them since 5.1, ours is 6.6 at the least.
            "-Ctarget-cpu=v3".into(),
            // The linker's default calls a byte loop for every memset, of three bytes too: 100 ns a packet.
            "-Clink-arg=--disable-expand-memcpy-in-order".into(),
        ]
    }
}

/// Whether a variable of our environment configures the build that we are part of, or was put there by it. Such a
/// variable names the wrong compiler, wrapper, flags or profile for the inner build. What says how to reach registries,
/// how many jobs to run and how to talk to people is everyone's.
fn is_of_outer_build(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let shared = ["CARGO_HOME", "CARGO_MAKEFLAGS"].contains(&name)
        || ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
    let outer = name.starts_with("CARGO_")
        || name.starts_with("RUSTC")
        || name.starts_with("RUSTDOC")
        || ["CARGO", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUST_RECURSION_COUNT"].contains(&name);
    // Set by cargo for build scripts; cargo itself would take TARGET and the like for nothing, but host build scripts
    // of the inner build read them when they run outside of cargo's care.
    let script = ["OUT_DIR", "TARGET", "HOST", "NUM_JOBS", "OPT_LEVEL", "PROFILE", "DEBUG", "LD"].contains(&name);
    (outer && !shared) || script
}

impl Compiler {
    /// Debian's packages before rustup: a released compiler is preferred to a nightly.
    pub fn find() -> Result<Self, Missing> {
        let mut rejected = Vec::new();
        for probe in [probe_packaged, probe_nightly] {
            match probe() {
                Ok(compiler) => return Ok(compiler),
                Err(reason) => rejected.push(reason),
            }
        }
        Err(Missing::Compiler(rejected))
    }
}

/// /usr/bin/rustc, if its distribution also packages `core` for the target.
fn probe_packaged() -> Result<Compiler, String> {
    let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    let verbose = first_success(Command::new(&rustc).arg("-vV"))
        .ok_or("no compiler among the distribution's packages (/usr/bin/rustc)")?;
    let version = acceptable_version(&verbose).map_err(|reason| format!("/usr/bin/rustc: {reason}"))?;
    if !cargo.is_file() {
        return Err("/usr/bin/rustc is there, /usr/bin/cargo is not".into());
    }
    let library = first_success(Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET]))
        .ok_or_else(|| format!("/usr/bin/rustc does not know the target {TARGET}"))?;
    if !has_core(Path::new(library.trim())) {
        return Err(format!("/usr/bin/rustc has no core library for {TARGET}"));
    }
    Ok(Compiler { cargo, rustc, version, core: Core::Precompiled })
}

fn has_core(library: &Path) -> bool {
    let Ok(entries) = library.read_dir() else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with("libcore-") && name.ends_with(".rlib"))
    })
}

/// rustup's nightly, if the source of `core` is there to compile.
fn probe_nightly() -> Result<Compiler, String> {
    let which = |tool: &str| {
        let mut command = Command::new("rustup");
        // Detection must not start a download, nor look into the toolchain of the cargo that started us.
        command.args(["which", "--toolchain", "nightly", tool]).env("RUSTUP_AUTO_INSTALL", "0");
        first_success(&mut command).map(|path| PathBuf::from(path.trim()))
    };
    let rustc = which("rustc").ok_or("no nightly toolchain in rustup")?;
    let cargo = which("cargo").ok_or("rustup's nightly has no cargo")?;
    let verbose = first_success(Command::new(&rustc).arg("-vV")).ok_or("rustup's nightly rustc does not run")?;
    let version = acceptable_version(&verbose).map_err(|reason| format!("rustup's nightly: {reason}"))?;
    let sysroot = first_success(Command::new(&rustc).args(["--print", "sysroot"]))
        .ok_or("rustup's nightly rustc does not name its sysroot")?;
    if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file() {
        return Err("rustup's nightly is without its component rust-src".into());
    }
    Ok(Compiler { cargo, rustc, version, core: Core::FromSource })
}

/// The first line of `rustc -vV`, when its release and its LLVM fit.
fn acceptable_version(verbose: &str) -> Result<String, String> {
    let field = |name: &str| {
        verbose
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .ok_or(format!("no {name:?} in rustc -vV"))
    };
    let release = field("release:")?;
    if major_minor(release).is_none_or(|version| version < OLDEST_RUSTC) {
        return Err(format!("version {release} is older than {}.{}", OLDEST_RUSTC.0, OLDEST_RUSTC.1));
    }
    let llvm = field("LLVM version:")?;
    if major_minor(llvm).is_none_or(|(major, _)| major > LLVM_MAJOR) {
        return Err(format!("its LLVM {llvm} is newer than the {LLVM_MAJOR} of bpf-linker"));
    }
    Ok(verbose.lines().next().unwrap_or_default().to_owned())
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

impl Linker {
    /// On PATH, or where `cargo install` puts it: the first that fits, for an old one may stand before it.
    pub fn find() -> Result<Self, Missing> {
        let mut rejected = Vec::new();
        for path in linker_places().into_iter().filter(|path| path.is_file()) {
            match Self::probe(path) {
                Ok(linker) => return Ok(linker),
                Err(reason) => rejected.push(reason),
            }
        }
        Err(Missing::Linker(if rejected.is_empty() { "it is not installed".into() } else { rejected.join("; ") }))
    }

    fn probe(path: PathBuf) -> Result<Self, String> {
        let version = first_success(Command::new(&path).arg("--version"))
            .ok_or_else(|| format!("{} does not run: perhaps its LLVM is gone", path.display()))?;
        let version = version.trim().to_owned();
        let series = version.strip_prefix("bpf-linker ").and_then(major_minor);
        if series != major_minor(LINKER_VERSION) {
            return Err(format!("{} is {version}", path.display()));
        }
        Ok(Self { path, version })
    }
}

fn linker_places() -> Vec<PathBuf> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let directories = env::split_paths(&on_path).chain(home.map(|home| home.join("bin")));
    directories.map(|directory| directory.join("bpf-linker")).collect()
}

/// What a command prints, if it can be started and succeeds.
fn first_success(command: &mut Command) -> Option<String> {
    for name in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    let Output { status, stdout, .. } = command.output().ok()?;
    status.success().then(|| String::from_utf8_lossy(&stdout).into_owned())
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler(candidates) => {
                write!(f, "no compiler for eBPF ({})", candidates.join("; "))
            }
            Self::Linker(found) => write!(f, "no bpf-linker {LINKER_VERSION} ({found})"),
        }
    }
}

// The path is for rustfmt, which also comes here from sdn-agent's build script and would look beside this file.
#[cfg(test)]
#[path = "toolchain/tests.rs"]
mod tests;
