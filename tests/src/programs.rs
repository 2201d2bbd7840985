//! Where the programs are that a lab starts.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Names the directory of the programs, if they are not beside the running one.
pub const BIN_DIR: &str = "CULVERT_BIN_DIR";

/// The programs of one build.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `sdn-agent`.
    pub agent: PathBuf,
    /// `sdnctl`.
    pub sdnctl: PathBuf,
    /// `sdn-cni`, the statically linked one if that is not older.
    pub cni: PathBuf,
    /// `sdn-lab` itself, which also is the reaper of the labs of other programs.
    pub lab: PathBuf,
}

impl Programs {
    /// Looks in `$CULVERT_BIN_DIR`, else beside the running program.
    pub fn find() -> Result<Self> {
        let directory = directory()?;
        Ok(Self {
            agent: present(&directory, "sdn-agent", "sdn-agent")?,
            sdnctl: present(&directory, "sdnctl", "sdn-agent")?,
            cni: newest_plugin(&directory)?,
            lab: present(&directory, "sdn-lab", "sdn-lab")?,
        })
    }

    /// `sdn-lab` alone, for a lab without agents; the others are where they would be.
    pub fn only_lab() -> Result<Self> {
        let directory = directory()?;
        let lab = present(&directory, "sdn-lab", "sdn-lab")?;
        let [agent, sdnctl, cni] = ["sdn-agent", "sdnctl", "sdn-cni"].map(|name| directory.join(name));
        Ok(Self { agent, sdnctl, cni, lab })
    }
}

fn directory() -> Result<PathBuf> {
    if let Some(directory) = env::var_os(BIN_DIR) {
        return Ok(directory.into());
    }
    let this = env::current_exe().context("find the running program")?;
    let beside = this.parent().unwrap_or(Path::new("/"));
    // Cargo puts tests and examples one floor below the programs.
    let below = [OsStr::new("deps"), OsStr::new("examples")].map(Some).contains(&beside.file_name());
    Ok(if below { beside.parent().unwrap_or(beside) } else { beside }.to_owned())
}

fn present(directory: &Path, name: &str, package: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    if !path.is_file() {
        bail!("{} is not there: build it (cargo build -p {package}) or set {BIN_DIR}", path.display());
    }
    Ok(path)
}

/// The plugin is built twice: with everything else, and alone with a static C library, as it is shipped.
fn newest_plugin(directory: &Path) -> Result<PathBuf> {
    let ordinary = present(directory, "sdn-cni", "sdn-cni")?;
    let changed = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let fixed = directory.file_name().and_then(|profile| Some(directory.parent()?.join(target).join(profile)));
    let fixed = fixed.map(|directory| directory.join("sdn-cni"));
    Ok(match fixed {
        Some(fixed) if changed(&fixed) >= changed(&ordinary) => fixed,
        _ => ordinary,
    })
}
