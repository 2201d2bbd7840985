//! The outside host: the nodes' gateway, the internet, and whoever may not be reached there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;

use anyhow::Result;
use sdn_cluster::model::Protocol;
use tokio::runtime::Handle;

use super::Premises;
use crate::family::{Family, IpFamily};
use crate::nameserver::NameServer;
use crate::node::command_of;
use crate::record::HostRecord;
use crate::sandbox::Sandbox;
use crate::standin::{Identity, StandIn};
use crate::underlay::{Host, Underlay, internet_address};

/// TCP port on which the outside host answers.
pub const OUTSIDE_TCP: u16 = 80;

/// UDP port on which the outside host answers.
pub const OUTSIDE_UDP: u16 = 9000;

/// The outside host of a lab.
#[derive(Debug)]
pub struct Outside {
    sandbox: Sandbox,
    family: Family,
    file: PathBuf,
    names: NameServer,
    // Served until dropped.
    _stand_ins: Vec<StandIn>,
}

impl Outside {
    pub(crate) fn make(premises: &Premises, underlay: &Underlay, family: Family, runtime: &Handle) -> Result<Self> {
        let net = underlay.add_outside()?;
        let file = premises.keep("outside.net", &net)?;
        let sandbox = Sandbox::from(net).in_cgroup(premises.dir().cgroup()?.child("outside")?);
        let who = Arc::new(Identity { namespace: String::new(), pod: "outside".into(), node: String::new() });
        let stand_ins = [(Protocol::Tcp, OUTSIDE_TCP), (Protocol::Udp, OUTSIDE_UDP)]
            .into_iter()
            .map(|(protocol, port)| StandIn::open(&sandbox, runtime, who.clone(), protocol, port))
            .collect::<Result<_>>()?;
        let names = NameServer::open(&sandbox, runtime)?;
        Ok(Self { sandbox, family, file, names, _stand_ins: stand_ins })
    }

    /// Its address "on the internet".
    pub fn address(&self, family: IpFamily) -> IpAddr {
        internet_address(family)
    }

    /// Its name server, which all nodes ask.
    pub fn names(&self) -> &NameServer {
        &self.names
    }

    /// Its network and cgroup; it has the machine's file systems.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Runs a command on it.
    pub fn exec<S: AsRef<std::ffi::OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<Output> {
        self.sandbox.output(&mut command_of(command)?)
    }

    pub(crate) fn record(&self) -> HostRecord {
        let internet = self.family.each().iter().map(|family| internet_address(*family));
        HostRecord {
            net: self.file.clone(),
            cgroup: self.sandbox.cgroup().map(|cgroup| cgroup.path().to_owned()).unwrap_or_default(),
            addresses: internet.chain(Host::Outside.addresses(self.family)).collect(),
        }
    }
}
