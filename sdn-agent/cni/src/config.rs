//! The network configuration on standard input (CNI spec 1.1.0, sections 1 and 3).

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::environment::is_name;
use crate::protocol::{Attachment, Failure, code};
use crate::result::Success;

/// Longest configuration in bytes. GC lists the node's attachments in it, CHECK carries a result.
pub const CONFIG_MAX: u64 = 4 << 20;

/// Where the agent listens unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/culvert/cni.sock";

/// Versions of the spec that the plugin speaks, oldest first.
pub const VERSIONS: [SpecVersion; 4] =
    [SpecVersion::V0_3_1, SpecVersion::V0_4_0, SpecVersion::V1_0_0, SpecVersion::V1_1_0];

/// A version of the CNI spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecVersion {
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: adds CHECK.
    V0_4_0,
    /// 1.0.0: `ips` lose their `version`.
    V1_0_0,
    /// 1.1.0: adds GC and STATUS, and the MTU of interfaces.
    V1_1_0,
}

/// A network configuration, checked.
#[derive(Clone, Debug)]
pub struct NetConf {
    /// `cniVersion`: the form of the result.
    pub version: SpecVersion,
    /// `name` of the network.
    pub name: String,
    /// `agentSocket`: where the agent listens.
    pub socket: PathBuf,
    /// `runtimeConfig`: capabilities.
    pub runtime_config: Map<String, Value>,
    /// `prevResult` as it came: DEL has to work whatever it is. See [`Self::previous`].
    pub raw_previous: Option<Value>,
    /// `cni.dev/valid-attachments`; None if the key is not there at all.
    pub valid_attachments: Option<Vec<Attachment>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    name: String,
    #[serde(default)]
    agent_socket: Option<PathBuf>,
    #[serde(default)]
    runtime_config: Option<Map<String, Value>>,
    #[serde(default)]
    ipam: Option<Value>,
    #[serde(default)]
    prev_result: Option<Value>,
    /// None without the key; null, which Go writes for an empty list, is an empty list.
    #[serde(default, rename = "cni.dev/valid-attachments", deserialize_with = "null_is_empty")]
    valid_attachments: Option<Vec<ValidAttachment>>,
}

#[derive(Deserialize)]
struct ValidAttachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

// === impl SpecVersion ===

impl SpecVersion {
    /// The newest one.
    pub const LATEST: Self = Self::V1_1_0;

    /// As in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        VERSIONS.into_iter().find(|version| version.as_str() == text)
    }

    /// The version of a configuration that may be wrong otherwise: for the form of an error.
    pub fn of_config(bytes: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(bytes).ok()?;
        Self::parse(document.get("cniVersion")?.as_str()?)
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl NetConf ===

impl NetConf {
    /// Checks everything that does not depend on the command.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let undecodable = |e: serde_json::Error| {
            Failure::new(code::DECODING_FAILURE, "decoding the network configuration on standard input", e.to_string())
        };
        // The version first: a configuration of another version may have any shape.
        let version = version_of(&serde_json::from_slice(bytes).map_err(undecodable)?)?;
        let document: Document = serde_json::from_slice(bytes).map_err(undecodable)?;
        if !is_name(&document.name) {
            let cause =
                format!("name '{}': want letters, digits, '_', '.', '-', the first a letter or digit", document.name);
            return Err(invalid(cause));
        }
        if let Some(ipam) = document.ipam.as_ref().and_then(|ipam| ipam.get("type")).filter(|kind| *kind != "") {
            let message = format!("unsupported field ipam.type = {ipam}");
            return Err(Failure::new(code::UNSUPPORTED_FIELD, message, "the agent manages addresses; leave ipam out"));
        }
        let socket = document.agent_socket.unwrap_or_else(|| DEFAULT_SOCKET.into());
        if !socket.is_absolute() {
            return Err(invalid(format!("agentSocket '{}': want an absolute path", socket.display())));
        }
        let attachment = |valid: ValidAttachment| Attachment { container_id: valid.container_id, ifname: valid.ifname };
        Ok(Self {
            version,
            name: document.name,
            socket,
            runtime_config: document.runtime_config.unwrap_or_default(),
            raw_previous: document.prev_result,
            valid_attachments: document.valid_attachments.map(|valid| valid.into_iter().map(attachment).collect()),
        })
    }

    /// `prevResult`, if there is one.
    pub fn previous(&self) -> Result<Option<Success>, Failure> {
        let Some(raw) = &self.raw_previous else { return Ok(None) };
        Success::deserialize(raw).map(Some).map_err(|e| {
            Failure::new(code::DECODING_FAILURE, "decoding prevResult in the network configuration", e.to_string())
        })
    }

    /// Fails unless the configuration's version of the spec has the command.
    pub fn require(&self, command: &str, since: SpecVersion) -> Result<(), Failure> {
        if self.version >= since {
            return Ok(());
        }
        let cause = format!("the configuration's cniVersion is {}, {command} came with {since}", self.version);
        Err(Failure::new(code::INCOMPATIBLE_VERSION, format!("incompatible CNI version for {command}"), cause))
    }
}

/// Reads a whole configuration.
pub fn read(input: impl Read) -> Result<Vec<u8>, Failure> {
    let failed =
        |cause: String| Failure::new(code::IO_FAILURE, "reading the network configuration from standard input", cause);
    let mut bytes = Vec::new();
    input.take(CONFIG_MAX + 1).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > CONFIG_MAX { Err(failed(format!("longer than {CONFIG_MAX} bytes"))) } else { Ok(bytes) }
}

/// Configurations without a version are of 0.1.0, says the spec of old.
fn version_of(document: &Value) -> Result<SpecVersion, Failure> {
    let text = match document.get("cniVersion") {
        None | Some(Value::Null) => "0.1.0",
        Some(Value::String(text)) => text,
        Some(other) => {
            let cause = format!("cniVersion {other} is no text");
            return Err(Failure::new(
                code::DECODING_FAILURE,
                "decoding the network configuration on standard input",
                cause,
            ));
        }
    };
    SpecVersion::parse(text).ok_or_else(|| {
        let cause = format!(
            "the configuration's cniVersion is '{text}', supported are {}",
            VERSIONS.map(SpecVersion::as_str).join(", ")
        );
        Failure::new(code::INCOMPATIBLE_VERSION, "incompatible CNI versions", cause)
    })
}

fn invalid(cause: String) -> Failure {
    Failure::new(code::INVALID_CONFIG, "invalid network configuration", cause)
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<ValidAttachment>>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
