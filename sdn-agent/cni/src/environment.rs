//! The parameters that a runtime passes in the environment (CNI spec 1.1.0, section 2).

use std::path::PathBuf;

use crate::protocol::{Attachment, Failure, PodIdentity, code};

/// Longest value that is looked at, in bytes.
const VALUE_MAX: usize = 4096;

/// Longest container id in bytes. Runtimes use 64.
const CONTAINER_ID_MAX: usize = 256;

/// Longest interface name in bytes (IFNAMSIZ less its end).
const IFNAME_MAX: usize = 15;

/// What the runtime asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach a container.
    Add(Parameters),
    /// Detach it.
    Del(Parameters),
    /// Is it still attached as it was?
    Check(Parameters),
    /// Detach all that are not listed in the configuration.
    Gc,
    /// Can ADD be served?
    Status,
    /// Which versions of the spec?
    Version,
}

/// The parameters of one attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// CNI_CONTAINERID and CNI_IFNAME.
    pub attachment: Attachment,
    /// CNI_NETNS; only DEL may lack it.
    pub netns: Option<PathBuf>,
    /// CNI_NETNS_OVERRIDE: the runtime knows that CNI_NETNS is the plugin's own.
    pub own_netns_allowed: bool,
    /// The pod in CNI_ARGS.
    pub pod: Option<PodIdentity>,
}

// === impl Command ===

impl Command {
    /// From the environment, which is asked by name.
    pub fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let variable = |name: &str| match variable(name) {
            Some(value) if value.len() > VALUE_MAX => Err(invalid(name, format!("longer than {VALUE_MAX} bytes"))),
            value => Ok(value.filter(|value| !value.is_empty())),
        };
        let command = variable("CNI_COMMAND")?.ok_or_else(|| {
            invalid("CNI_COMMAND", "missing; this is a CNI plugin, which container runtimes execute, not people".into())
        })?;
        match command.as_str() {
            "ADD" => Parameters::parse(variable, true).map(Self::Add),
            "DEL" => Parameters::parse(variable, false).map(Self::Del),
            "CHECK" => Parameters::parse(variable, true).map(Self::Check),
            "GC" => Ok(Self::Gc),
            "STATUS" => Ok(Self::Status),
            "VERSION" => Ok(Self::Version),
            other => Err(invalid("CNI_COMMAND", format!("'{other}' is no command of CNI 1.1.0"))),
        }
    }
}

// === impl Parameters ===

impl Parameters {
    fn parse(
        variable: impl Fn(&str) -> Result<Option<String>, Failure>,
        netns_required: bool,
    ) -> Result<Self, Failure> {
        let required = |name: &str| variable(name)?.ok_or_else(|| invalid(name, "missing".into()));
        let container_id = required("CNI_CONTAINERID")?;
        let ifname = required("CNI_IFNAME")?;
        if container_id.len() > CONTAINER_ID_MAX || !is_name(&container_id) {
            let want =
                format!("want letters, digits, '_', '.', '-', the first a letter or digit, at most {CONTAINER_ID_MAX}");
            return Err(invalid("CNI_CONTAINERID", format!("'{container_id}': {want}")));
        }
        if !is_interface_name(&ifname) {
            let want = format!("want 1 to {IFNAME_MAX} bytes without '/', ':' and spaces");
            return Err(invalid("CNI_IFNAME", format!("'{ifname}': {want}")));
        }
        let netns = match variable("CNI_NETNS")? {
            None if netns_required => return Err(invalid("CNI_NETNS", "missing".into())),
            netns => netns.map(PathBuf::from),
        };
        let own_netns_allowed = variable("CNI_NETNS_OVERRIDE")?;
        let own_netns_allowed =
            own_netns_allowed.is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
        let pod = pod_of(&variable("CNI_ARGS")?.unwrap_or_default())?;
        Ok(Self { attachment: Attachment { container_id, ifname }, netns, own_netns_allowed, pod })
    }
}

/// The pod named in CNI_ARGS (`KEY=VALUE;KEY=VALUE`). Other keys are for other plugins.
fn pod_of(args: &str) -> Result<Option<PodIdentity>, Failure> {
    let (mut namespace, mut name, mut uid) = (String::new(), String::new(), String::new());
    for pair in args.split(';').filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| invalid("CNI_ARGS", format!("'{pair}' is no KEY=VALUE")))?;
        let place = match key {
            "K8S_POD_NAMESPACE" => &mut namespace,
            "K8S_POD_NAME" => &mut name,
            "K8S_POD_UID" => &mut uid,
            _ => continue,
        };
        // Names and uids of objects are lower-case DNS names at most 253 bytes long (RFC 1123).
        let fine = value.len() <= 253 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if !fine {
            return Err(invalid("CNI_ARGS", format!("{key}={value}: no name of a Kubernetes object")));
        }
        *place = value.to_owned();
    }
    if namespace.is_empty() || name.is_empty() {
        return Ok(None);
    }
    Ok(Some(PodIdentity { namespace, name, uid }))
}

/// Container ids and names of networks: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub(crate) fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// As the kernel wants it, and safe in a path.
fn is_interface_name(text: &str) -> bool {
    let length = (1..=IFNAME_MAX).contains(&text.len());
    length
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

fn invalid(name: &str, cause: String) -> Failure {
    Failure::new(code::INVALID_ENVIRONMENT, format!("invalid environment variable {name}"), cause)
}

#[cfg(test)]
mod tests;
