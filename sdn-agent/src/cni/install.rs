//! Puts the plugin where the container runtime looks for it.
//!
//! The configuration comes last and goes first: a runtime that sees it takes the node's network for ready and starts pods.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;
use thiserror::Error;

/// Name of the plugin's binary, and its `type` in the configuration.
pub const PLUGIN: &str = "sdn-cni";

/// Name of the configuration. Runtimes take the first of the directory; see the preflight for others that come before it.
pub const CONFLIST: &str = "10-culvert.conflist";

/// Name of the network.
pub const NETWORK: &str = "culvert";

/// Where the plugin comes from and goes to.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The binary to install.
    pub plugin: PathBuf,
    /// Directory of plugins, such as /opt/cni/bin.
    pub bin_dir: PathBuf,
    /// Directory of network configurations, such as /etc/cni/net.d.
    pub conf_dir: PathBuf,
    /// The agent's socket, as the plugin sees it.
    pub socket: PathBuf,
}

/// The plugin could not be installed or removed.
#[derive(Debug, Error)]
#[error("{operation} {path}: {source}; is the directory mounted from the host, and writable?")]
pub struct InstallError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

// === impl Installation ===

impl Installation {
    /// Installs the plugin's binary. One that is the same already is left alone.
    pub fn install_plugin(&self) -> Result<(), InstallError> {
        let binary = fs::read(&self.plugin).map_err(|e| failed("reading", &self.plugin, e))?;
        place(&self.bin_dir, PLUGIN, &binary, 0o755)
    }

    /// Installs the configuration. To be called when the agent can serve ADD.
    pub fn install_conflist(&self) -> Result<(), InstallError> {
        place(&self.conf_dir, CONFLIST, self.conflist().as_bytes(), 0o644)
    }

    /// Removes the configuration and then the plugin; what is not there is no error. Pods that run go on, but are not removed
    /// through the plugin any more.
    pub fn uninstall(&self) -> Result<(), InstallError> {
        // The first error is reported, after everything was tried.
        let paths = [self.conf_dir.join(CONFLIST), self.bin_dir.join(PLUGIN)];
        let removed = paths.map(|path| match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("removing", &path, e)),
            _ => Ok(()),
        });
        removed.into_iter().collect()
    }

    /// The configuration. A runtime takes the highest version it knows of `cniVersion` and `cniVersions`; one that does not know
    /// the latter, older than 1.1.0, is content with the former.
    fn conflist(&self) -> String {
        let conflist = json!({
            "cniVersion": "1.0.0",
            "cniVersions": ["1.0.0", "1.1.0"],
            "name": NETWORK,
            "plugins": [{ "type": PLUGIN, "agentSocket": self.socket }],
        });
        format!("{conflist:#}\n")
    }
}

/// A file with this content, there at once or not at all.
fn place(dir: &Path, name: &str, content: &[u8], mode: u32) -> Result<(), InstallError> {
    fs::create_dir_all(dir).map_err(|e| failed("making", dir, e))?;
    let path = dir.join(name);
    let is_same =
        || Some(fs::read(&path).ok()? == content && fs::metadata(&path).ok()?.permissions().mode() & 0o7777 == mode);
    if is_same().unwrap_or(false) {
        return Ok(());
    }
    // Hidden and without the extensions that runtimes look for.
    let new = dir.join(format!(".{name}.new"));
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&new);
        failed("installing", &path, e)
    })
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> InstallError {
    InstallError { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(dir: &Path) -> Installation {
        let plugin = dir.join("built");
        fs::write(&plugin, b"\x7fELF of the plugin").unwrap();
        Installation {
            plugin,
            bin_dir: dir.join("opt/cni/bin"),
            conf_dir: dir.join("etc/cni/net.d"),
            socket: "/run/culvert/cni.sock".into(),
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn plugin_first_then_conflist_then_neither() {
        let dir = tempfile::tempdir().unwrap();
        let installation = installation(dir.path());
        installation.install_plugin().unwrap();
        assert!(!installation.conf_dir.exists(), "a configuration before the agent is ready");
        let plugin = installation.bin_dir.join(PLUGIN);
        assert_eq!(fs::metadata(&plugin).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::read(&plugin).unwrap(), b"\x7fELF of the plugin");

        installation.install_conflist().unwrap();
        assert_eq!(names(&installation.conf_dir), [CONFLIST]);
        installation.uninstall().unwrap();
        installation.uninstall().unwrap();
        assert_eq!(names(&installation.conf_dir), [""; 0]);
        assert_eq!(names(&installation.bin_dir), [""; 0]);
    }

    #[test]
    fn a_running_plugin_is_replaced_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let installation = installation(dir.path());
        installation.install_plugin().unwrap();
        let running = fs::File::open(installation.bin_dir.join(PLUGIN)).unwrap();
        fs::write(&installation.plugin, b"\x7fELF of the next").unwrap();
        installation.install_plugin().unwrap();
        assert_eq!(io::read_to_string(running).unwrap(), "\x7fELF of the plugin");
        assert_eq!(fs::read(installation.bin_dir.join(PLUGIN)).unwrap(), b"\x7fELF of the next");
        assert_eq!(names(&installation.bin_dir), [PLUGIN], "no temporary file is left");
    }

    #[test]
    fn the_same_is_left_alone_but_a_wrong_mode_is_not() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let installation = installation(dir.path());
        installation.install_plugin().unwrap();
        let plugin = installation.bin_dir.join(PLUGIN);
        let inode = fs::metadata(&plugin).unwrap().ino();
        installation.install_plugin().unwrap();
        assert_eq!(fs::metadata(&plugin).unwrap().ino(), inode);
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o644)).unwrap();
        installation.install_plugin().unwrap();
        assert_eq!(fs::metadata(&plugin).unwrap().permissions().mode() & 0o7777, 0o755);
    }

    #[test]
    fn the_plugin_understands_the_conflist() {
        let dir = tempfile::tempdir().unwrap();
        let list: serde_json::Value = serde_json::from_str(&installation(dir.path()).conflist()).unwrap();
        for version in list["cniVersions"].as_array().unwrap() {
            // As a runtime derives it (spec, section 3).
            let mut config = list["plugins"][0].clone();
            config["cniVersion"] = version.clone();
            config["name"] = list["name"].clone();
            let config = sdn_cni::config::NetConf::parse(config.to_string().as_bytes()).unwrap();
            assert_eq!(config.socket, Path::new("/run/culvert/cni.sock"));
            assert_eq!(config.name, NETWORK);
        }
    }

    #[test]
    fn an_error_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut installation = installation(dir.path());
        installation.bin_dir = installation.plugin.join("no directory");
        let error = installation.install_plugin().unwrap_err().to_string();
        assert!(error.contains("built/no directory") && error.contains("Not a directory"), "{error}");
    }
}
