//! sysctls, written under our own devices only. A setting elsewhere that would be in the way is a finding of the preflight.

use std::io;
use std::path::{Path, PathBuf};

/// Where sysctls are.
const ROOT: &str = "/proc/sys/net";

/// A sysctl could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write {value} to {}: {cause}", path.display())]
pub struct SysctlError {
    /// Its file.
    pub path: PathBuf,
    /// What was to be written.
    pub value: &'static str,
    /// What the system said.
    pub cause: io::Error,
}

/// A setting of one device and one family.
struct Setting {
    family: &'static str,
    name: &'static str,
    value: &'static str,
}

/// IPv4 settings of culvert0. Pods' packets do not enter the node's stack by their own veths, whose settings the plugin makes.
const IPV4: [Setting; 4] = [
    // An interface without addresses fails even the loose check: what comes out of the overlay for the node itself would be
    // dropped. The programs check sources themselves. The kernel takes the maximum of this and conf/all.
    Setting { family: "ipv4", name: "rp_filter", value: "0" },
    // The programs answer ARP; the node's stack must not do it beside them, with other addresses.
    Setting { family: "ipv4", name: "arp_ignore", value: "8" },
    Setting { family: "ipv4", name: "arp_announce", value: "2" },
    Setting { family: "ipv4", name: "accept_redirects", value: "0" },
];

/// IPv6 settings of culvert0, which has an address.
const IPV6: [Setting; 3] = [
    // A distribution may have switched it off by default.
    Setting { family: "ipv6", name: "disable_ipv6", value: "0" },
    Setting { family: "ipv6", name: "accept_ra", value: "0" },
    // No link-local address: it would only make router solicitations and multicast reports that nobody takes.
    Setting { family: "ipv6", name: "addr_gen_mode", value: "1" },
];

/// Settings of the overlay's device. `ipv6`: it will have an IPv6 address.
pub fn write_overlay(device: &str, ipv6: bool) -> Result<(), SysctlError> {
    write_all(Path::new(ROOT), device, &IPV4)?;
    if ipv6 { write_all(Path::new(ROOT), device, &IPV6) } else { Ok(()) }
}

fn write_all(root: &Path, device: &str, settings: &[Setting]) -> Result<(), SysctlError> {
    for Setting { family, name, value } in settings {
        // A device's name cannot contain '/', so this stays under its own directory.
        let path = root.join(family).join("conf").join(device).join(name);
        std::fs::write(&path, value).map_err(|cause| SysctlError { path, value, cause })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_devices_own_files_are_written() {
        let root = tempfile::tempdir().unwrap();
        for family in ["ipv4", "ipv6"] {
            for device in ["all", "default", "culvert0"] {
                let directory = root.path().join(family).join("conf").join(device);
                std::fs::create_dir_all(&directory).unwrap();
                for setting in IPV4.iter().chain(&IPV6).filter(|s| s.family == family) {
                    std::fs::write(directory.join(setting.name), "before").unwrap();
                }
            }
        }
        write_all(root.path(), "culvert0", &IPV4).unwrap();
        write_all(root.path(), "culvert0", &IPV6).unwrap();
        let read = |path: &str| std::fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(read("ipv4/conf/culvert0/rp_filter"), "0");
        assert_eq!(read("ipv6/conf/culvert0/disable_ipv6"), "0");
        assert_eq!(read("ipv4/conf/all/rp_filter"), "before");
        assert_eq!(read("ipv6/conf/default/disable_ipv6"), "before");

        let error = write_all(root.path(), "culvert1", &IPV4).unwrap_err().to_string();
        assert!(error.starts_with("write 0 to ") && error.contains("culvert1/rp_filter: No such file"), "{error}");
    }
}
