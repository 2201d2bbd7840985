//! Namespaces, eBPF and packages need root; builds do not, and should not leave root's files in the target directory.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// How this process gets something done that only root may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// It is root.
    Root,
    /// It asks sudo.
    Sudo,
}

impl Privilege {
    /// `purpose` ends the sentence "root is needed …".
    pub fn find(purpose: &str) -> Result<Self> {
        // The owner of /proc/self is the effective user of this process.
        if fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            return Ok(Self::Root);
        }
        match executable("sudo") {
            Some(_) => Ok(Self::Sudo),
            None => bail!("root is needed {purpose}, and there is no sudo: run this as root"),
        }
    }

    /// `program` as root. Variables must be named: sudo passes none on.
    pub fn command(self, program: impl AsRef<OsStr>, variables: &[(&str, String)]) -> Command {
        match self {
            Self::Root => {
                let mut command = Command::new(program);
                command.envs(variables.iter().map(|(name, value)| (name, value)));
                command
            }
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.arg("env");
                command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
                command.arg(program);
                command
            }
        }
    }
}

/// Where a command is: on PATH, or where Debian keeps what an ordinary user's PATH leaves out.
pub fn executable(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(more).map(|directory| directory.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_is_told_the_variables_by_env() {
        let command = Privilege::Sudo.command("/bin/true", &[("A", "1 2".into())]);
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(command.get_program(), "sudo");
        assert_eq!(arguments, ["env", "A=1 2", "/bin/true"]);
    }

    #[test]
    fn an_executable_is_found_by_its_name_only() {
        assert!(executable("sh").is_some());
        assert_eq!(executable("no-such-command-anywhere"), None);
    }
}
