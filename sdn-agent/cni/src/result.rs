//! What the plugin says on standard output (CNI spec 1.1.0, section 5), in the form of each version.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{SpecVersion, VERSIONS};
use crate::protocol::{Attachment, Dns, Failure, PodInterface};
use crate::veth::link_routes;

/// `scope` of a route whose destination is on the link (RT_SCOPE_LINK).
const SCOPE_LINK: u32 = 253;

/// The result of an ADD, of this plugin or of others. Reading takes every version's form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// Interfaces, on the host and in the container.
    #[serde(default, deserialize_with = "null_is_default")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ips: Vec<IpConfig>,
    /// Routes in the container.
    #[serde(default, deserialize_with = "null_is_default")]
    pub routes: Vec<Route>,
    /// Resolver configuration.
    #[serde(default, deserialize_with = "null_is_default")]
    pub dns: Dns,
}

/// An interface of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Path of the container's network namespace; empty for an interface of the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// A socket of other plugins. Since 1.1.0.
    #[serde(default, rename = "socketPath", skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// A PCI device of other plugins. Since 1.1.0.
    #[serde(default, rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// An address of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index into [`Success::interfaces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// Address and prefix length.
    pub address: IpNet,
    /// The gateway of its family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// A route of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes. Since 1.1.0, like all that follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Maximum segment size to advertise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Lower is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// global (0), link (253) or host (254).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

// === impl Success ===

impl Success {
    /// What an ADD of ours has made: host end, pod's end, addresses, routes.
    pub fn of_pod(attachment: &Attachment, sandbox: &str, interface: &PodInterface) -> Self {
        let host = Interface {
            name: interface.host_interface.clone(),
            mac: interface.host_mac.to_string(),
            mtu: Some(interface.mtu),
            ..Interface::default()
        };
        let pod = Interface {
            name: attachment.ifname.clone(),
            mac: interface.mac.to_string(),
            mtu: Some(interface.mtu),
            sandbox: sandbox.into(),
            ..Interface::default()
        };
        let gateway =
            |address: &IpAddr| interface.gateways.iter().copied().find(|gw| gw.is_ipv4() == address.is_ipv4());
        let ip =
            |address: &IpAddr| IpConfig { interface: Some(1), address: (*address).into(), gateway: gateway(address) };
        let on_link = link_routes(interface).map(|dst| Route { scope: Some(SCOPE_LINK), ..Route::to(dst) });
        let through =
            interface.routes.iter().map(|route| Route { gw: Some(route.gateway), ..Route::to(route.destination) });
        Self {
            interfaces: vec![host, pod],
            ips: interface.addresses.iter().map(ip).collect(),
            routes: on_link.chain(through).collect(),
            dns: interface.dns.clone(),
        }
    }

    /// An earlier plugin's result with ours behind it. Its resolver configuration stays, unless it has none.
    pub fn followed_by(mut self, ours: Self) -> Self {
        let before = self.interfaces.len();
        self.interfaces.extend(ours.interfaces);
        self.ips.extend(ours.ips.into_iter().map(|ip| IpConfig { interface: ip.interface.map(|i| i + before), ..ip }));
        self.routes.extend(ours.routes);
        if self.dns == Dns::default() {
            self.dns = ours.dns;
        }
        self
    }

    /// The pod's own end in a result: in a sandbox, and of this name.
    pub fn interface_in_sandbox(&self, ifname: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == ifname && !interface.sandbox.is_empty())
    }

    /// In the form of a version.
    pub fn to_json(&self, version: SpecVersion) -> Value {
        let mut form = self.clone();
        if version < SpecVersion::V1_1_0 {
            for interface in &mut form.interfaces {
                *interface = Interface { mtu: None, socket_path: None, pci_id: None, ..std::mem::take(interface) };
            }
            form.routes = form.routes.iter().map(|route| Route { gw: route.gw, ..Route::to(route.dst) }).collect();
        }
        let mut json = json!(form);
        json["cniVersion"] = version.as_str().into();
        if version < SpecVersion::V1_0_0 {
            for (ip, json) in form.ips.iter().zip(json["ips"].as_array_mut().into_iter().flatten()) {
                json["version"] = if ip.address.addr().is_ipv4() { "4" } else { "6" }.into();
            }
        }
        json
    }
}

// === impl Route ===

impl Route {
    fn to(dst: IpNet) -> Self {
        Self { dst, gw: None, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// The answer to VERSION. `cni_version` is what the runtime said, as it said it.
pub fn versions(cni_version: &str) -> Value {
    json!({ "cniVersion": cni_version, "supportedVersions": VERSIONS.map(SpecVersion::as_str) })
}

/// An error result.
pub fn error(failure: &Failure, version: SpecVersion) -> Value {
    json!({
        "cniVersion": version.as_str(),
        "code": failure.code,
        "msg": failure.message,
        "details": failure.details,
    })
}

/// Go writes null for an empty list.
fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
