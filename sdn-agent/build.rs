//! Compiles the kernel programs (package sdn-ebpf) into one object and tells the crate where it is: `CULVERT_EBPF_OBJECT`.
//!
//! A second cargo does it, because the object has its own compiler, target, profile and flags.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use toolchain::{TARGET, Toolchain};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let workspace = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    for path in ["sdn-ebpf", "Cargo.lock", "Cargo.toml", "xtask/src/toolchain.rs"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            println!("cargo::error={missing}; `cargo xtask setup` installs it");
            return Ok(ExitCode::SUCCESS);
        }
    };
    for tool in [&toolchain.compiler.rustc, &toolchain.linker.path] {
        println!("cargo::rerun-if-changed={}", tool.display());
    }
    let out_directory = PathBuf::from(env::var("OUT_DIR")?);
    let object = out_directory.join("culvert.ebpf.o");
    if !build_object(&toolchain, &workspace, &shared_directory(&out_directory), &object)? {
        // The compiler's own words are on standard error, which the outer cargo shows.
        return Ok(ExitCode::FAILURE);
    }
    println!("cargo::rustc-env=CULVERT_EBPF_OBJECT={}", object.display());
    Ok(ExitCode::SUCCESS)
}

/// A target directory for all profiles, feature sets and commands (build, check, clippy) of the outer cargo, each of which
/// has an OUT_DIR of its own: the object and what its macros need are compiled once for them all. It lies in the outer
/// target directory (`target/PROFILE/build/sdn-agent-HASH/out` is ours), so that `cargo clean` removes it.
fn shared_directory(out_directory: &Path) -> PathBuf {
    let build = out_directory.ancestors().find(|path| path.ends_with("build"));
    build.and_then(|path| path.ancestors().nth(2)).unwrap_or(out_directory).join("ebpf")
}

/// Builds in `directory` and copies the result to `object`. False: the inner cargo failed and said why.
fn build_object(
    toolchain: &Toolchain,
    workspace: &Path,
    directory: &Path,
    object: &Path,
) -> Result<bool, Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    // Held until the copy is done: a build with other features would overwrite the object in between.
    let turn = File::create(directory.join("turn"))?;
    turn.lock()?;
    let mut cargo = build_command(toolchain, workspace, directory)?;
    let status =
        cargo.status().map_err(|error| format!("cannot start {}: {error}", toolchain.compiler.cargo.display()))?;
    if status.success() {
        fs::copy(directory.join(TARGET).join("ebpf/sdn-ebpf"), object)?;
    }
    Ok(status.success())
}

fn build_command(toolchain: &Toolchain, workspace: &Path, target_directory: &Path) -> Result<Command, env::VarError> {
    let mut cargo = toolchain.cargo(&toolchain.compiler.cargo, "build", &env::var("CARGO_CFG_TARGET_ARCH")?);
    cargo
        .current_dir(workspace)
        .args(["--package", "sdn-ebpf", "--profile", "ebpf", "--locked", "--quiet", "--target-dir"])
        .arg(target_directory)
        .args(["--features", &forwarded_features().join(",")]);
    Ok(cargo)
}

/// Features of the kernel object: sdn-agent's feature `ebpf-NAME` is sdn-ebpf's feature `NAME`.
fn forwarded_features() -> Vec<String> {
    env::vars()
        .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_EBPF_").map(str::to_owned))
        .map(|feature| feature.to_lowercase().replace('_', "-"))
        .collect()
}
