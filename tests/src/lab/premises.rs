//! A lab's claim and its reaper, given up together.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::reaper::Reaper;
use crate::sandbox::Namespace;
use crate::state::{Claim, LabDir};

/// A claimed lab with its reaper. All that is on the machine is removed when it is closed or dropped.
#[derive(Debug)]
pub(crate) struct Premises {
    dir: LabDir,
    held: Option<(Claim, Reaper)>,
}

impl Premises {
    /// Claims `dir` and starts the reaper, which is `program`'s subcommand.
    pub fn claim(dir: &LabDir, program: &Path) -> Result<Self> {
        let claim = dir.claim()?;
        match Reaper::start(program, dir) {
            Ok(reaper) => Ok(Self { dir: dir.clone(), held: Some((claim, reaper)) }),
            Err(error) => {
                claim.remove()?;
                Err(error)
            }
        }
    }

    pub fn dir(&self) -> &LabDir {
        &self.dir
    }

    pub fn held(&self) -> Result<&Claim> {
        let (claim, _) = self.held.as_ref().with_context(|| format!("the lab '{}' has ended", self.dir.name()))?;
        Ok(claim)
    }

    /// Keeps a namespace under a name that others find.
    pub fn keep(&self, name: &str, namespace: &Namespace) -> Result<std::path::PathBuf> {
        self.held()?.keep_namespace(name, namespace)
    }

    /// Removes everything, and then lets the reaper go.
    pub fn close(&mut self) -> Result<()> {
        let Some((claim, reaper)) = self.held.take() else { return Ok(()) };
        let removed = claim.remove();
        reaper.dismiss();
        removed
    }
}

impl Drop for Premises {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            eprintln!("{error:#}");
        }
    }
}
