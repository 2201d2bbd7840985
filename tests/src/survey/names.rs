//! What names lead to, asked from a pod on every node of the name server in its resolv.conf.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hickory_proto::rr::RecordType;
use tokio::task::JoinSet;

use super::{Count, OPEN_QUESTIONS, PATIENCE, Place};
use crate::family::IpFamily;
use crate::lab::Lab;
use crate::nameserver::PORT;
use crate::node::{command_of, stdout_of};
use crate::pod::Pod;
use crate::probe::Failure;
use crate::probe::names::{NameReply, Transport, ask};

/// How long what was published last may take to reach all agents.
const SETTLING: Duration = Duration::from_secs(1);

/// How long an endpoint that is gone may be found in answers; how often one looks.
const WITHDRAWAL: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(2);

/// Kinds of names, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameKind {
    /// A Service with addresses of its own.
    Service,
    /// A Service whose name leads to its pods.
    Headless,
    /// One pod of such a Service.
    Host,
    /// A port of a Service.
    Port,
    /// An address of a Service.
    Reverse,
    /// A name of the internet.
    External,
    /// A name of the cluster or of the internet that nobody has.
    Absent,
}

/// What should be said about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameExpected {
    /// There is such a name, with these records of the type asked for.
    Records(BTreeSet<String>),
    /// There is no such name.
    Absent,
}

/// A question about a name, with all that belongs to it.
#[derive(Debug, Clone)]
pub struct NameCheck {
    /// What the name is.
    pub kind: NameKind,
    /// Who asks.
    pub from: Arc<Place>,
    /// Who is asked.
    pub server: IpAddr,
    /// How.
    pub over: Transport,
    /// For which name.
    pub name: String,
    /// For records of which type.
    pub record: RecordType,
    /// What should be said.
    pub expected: NameExpected,
}

/// A question to the C library's resolver, from a program in a pod.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// Who asks.
    pub from: String,
    /// For what: not a whole name, so that it has to be searched.
    pub name: String,
    /// What was otherwise than expected.
    pub fault: Option<String>,
}

/// An endpoint that stopped being ready, seen from one node.
#[derive(Debug, Clone)]
pub struct Withdrawal {
    /// The pod, `namespace/name`.
    pub endpoint: String,
    /// The Service's name.
    pub name: String,
    /// The node where it was asked for.
    pub node: String,
    /// How long it was found there; `None` when it was at the end still.
    pub took: Option<Duration>,
}

/// All that was found out about names.
#[derive(Debug, Default)]
pub struct Names {
    /// Every question with what is wrong with its answer.
    pub checked: Vec<(NameCheck, Option<String>)>,
    /// By the C library's resolver.
    pub resolved: Vec<Resolution>,
    /// What became of an endpoint that stopped being ready.
    pub withdrawn: Vec<Withdrawal>,
}

/// Asks for the names of a lab that is up. Pods whose CNI result names no name server do not ask.
pub fn survey(lab: &Lab) -> Result<Names> {
    let (askers, began) = (plan::askers(lab)?, Instant::now());
    let mut names = Names::default();
    for asker in &askers {
        let checks = plan::checks(lab, asker);
        names.checked.extend(asker.place.sandbox.within_async(async || answer_all(checks, began).await)?);
        names.resolved.extend(plan::short_names(lab, asker).into_iter().map(|(name, expected)| {
            let fault = resolve(&asker.pod, &name, &expected).err().map(|error| format!("{error:#}"));
            Resolution { from: asker.place.name.clone(), name, fault }
        }));
    }
    names.withdrawn = withdraw(lab, &askers)?;
    Ok(names)
}

async fn answer_all(checks: Vec<NameCheck>, began: Instant) -> Result<Vec<(NameCheck, Option<String>)>> {
    let mut waiting = checks.into_iter();
    let (mut asking, mut checked) = (JoinSet::new(), vec![]);
    waiting.by_ref().take(OPEN_QUESTIONS).for_each(|check| drop(asking.spawn(answer(check, began))));
    while let Some(answered) = asking.join_next().await {
        checked.push(answered.context("a question ended without an outcome")?);
        if let Some(check) = waiting.next() {
            asking.spawn(answer(check, began));
        }
    }
    Ok(checked)
}

async fn answer(check: NameCheck, began: Instant) -> (NameCheck, Option<String>) {
    let server = SocketAddr::new(check.server, PORT);
    loop {
        let outcome = ask(check.over, server, &check.name, check.record, PATIENCE).await;
        let fault = check.expected.fault(&outcome);
        // The answer of a moment ago is none only while that moment may be before the last change.
        if fault.is_none() || outcome.is_err() || began.elapsed() > SETTLING {
            return (check, fault);
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// Has a program in the pod look a name up, by getaddrinfo(3).
fn resolve(pod: &Pod, name: &str, expected: &BTreeSet<String>) -> Result<()> {
    let output = pod.sandbox()?.output(&mut command_of(["getent", "ahosts", name])?)?;
    let text = stdout_of(&output).context("getent ahosts")?;
    let found: BTreeSet<String> = text.lines().filter_map(|line| line.split(' ').next()).map(Into::into).collect();
    ensure!(found == *expected, "found {found:?} in place of {expected:?}");
    Ok(())
}

/// Has an endpoint of a headless Service stop being ready, looks on every node how long it is found still, and has it
/// become ready again.
fn withdraw(lab: &Lab, askers: &[plan::Asker]) -> Result<Vec<Withdrawal>> {
    let Some((name, endpoint)) = plan::withdrawable(lab) else { return Ok(vec![]) };
    let key = endpoint.key().to_string();
    lab.set_ready(&key, false)?;
    let told = Instant::now();
    let gone = await_all(askers, &name, &endpoint, false)?;
    lab.set_ready(&key, true)?;
    let back = await_all(askers, &name, &endpoint, true)?;
    ensure!(back.iter().all(Option::is_some), "{key} is ready again, and not found as {name}");
    let withdrawal = |(asker, gone): (&plan::Asker, Option<Instant>)| Withdrawal {
        endpoint: key.clone(),
        name: name.clone(),
        node: asker.place.node.clone(),
        took: gone.map(|gone| gone.saturating_duration_since(told)),
    };
    Ok(askers.iter().zip(gone).map(withdrawal).collect())
}

/// Asks on all nodes at once.
fn await_all(askers: &[plan::Asker], name: &str, endpoint: &Pod, wanted: bool) -> Result<Vec<Option<Instant>>> {
    thread::scope(|scope| {
        let waits: Vec<_> =
            askers.iter().map(|asker| scope.spawn(move || await_one(asker, name, endpoint, wanted))).collect();
        waits.into_iter().map(|wait| wait.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Asks from inside a place until none of its name servers has an endpoint any more, or all have it, as `wanted` says;
/// when that was.
fn await_one(asker: &plan::Asker, name: &str, endpoint: &Pod, wanted: bool) -> Result<Option<Instant>> {
    let deadline = Instant::now() + WITHDRAWAL;
    asker.place.sandbox.within_async(async || {
        loop {
            let asked = Instant::now();
            let mut all = true;
            for (address, server) in endpoint.addresses().iter().flat_map(|a| asker.servers.iter().map(move |s| (a, s)))
            {
                let record = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
                let reply = ask(Transport::Udp, SocketAddr::new(*server, PORT), name, record, PATIENCE).await;
                all &= reply.is_ok_and(|reply| reply.records.contains(&address.to_string()) == wanted);
            }
            match all {
                true => return Ok(Some(asked)),
                false if asked > deadline => return Ok(None),
                false => tokio::time::sleep(GLANCE).await,
            }
        }
    })
}

// === impl NameExpected ===

impl NameExpected {
    fn fault(&self, outcome: &Result<NameReply, Failure>) -> Option<String> {
        let (code, records) = match self {
            Self::Records(records) => ("NOERROR", records),
            Self::Absent => ("NXDOMAIN", &BTreeSet::new()),
        };
        match outcome {
            Err(failure) => Some(failure.to_string()),
            Ok(reply) if reply.code == code && reply.records == *records => None,
            Ok(reply) => Some(format!("is {reply} in place of {code} {records:?}")),
        }
    }
}

// === impl Names ===

impl Names {
    /// The questions by kind of name, family of the server and transport.
    pub fn counts(&self) -> BTreeMap<(NameKind, IpFamily, Transport), Count> {
        let mut counts: BTreeMap<_, Count> = BTreeMap::new();
        for (check, fault) in &self.checked {
            let count = counts.entry((check.kind, IpFamily::of(check.server), check.over)).or_default();
            count.tried += 1;
            count.well += usize::from(fault.is_none());
        }
        counts
    }

    /// All that was not as expected, a line each.
    pub fn faults(&self) -> Vec<String> {
        let checked = self.checked.iter().filter_map(|(check, fault)| Some(format!("{check}: {}", fault.as_ref()?)));
        let resolved = self.resolved.iter().filter_map(|resolution| {
            let Resolution { from, name, fault } = resolution;
            Some(format!("getaddrinfo: {from} looks up {name}: {}", fault.as_ref()?))
        });
        let withdrawn = self.withdrawn.iter().filter(|withdrawal| withdrawal.took.is_none()).map(|withdrawal| {
            let Withdrawal { endpoint, name, node, .. } = withdrawal;
            format!("{endpoint} is not ready, and found as {name} on {node} {} s later", WITHDRAWAL.as_secs())
        });
        checked.chain(resolved).chain(withdrawn).collect()
    }
}

// === impl NameCheck, NameKind ===

impl fmt::Display for NameCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, from, server, over, name, record, .. } = self;
        write!(f, "{kind}: {} (on {}) asks {server} over {over} for {name} {record}", from.name, from.node)
    }
}

impl NameKind {
    /// What is expected of it, for people.
    pub fn expectation(self) -> &'static str {
        match self {
            Self::Service => "the Service's own addresses",
            Self::Headless => "the addresses of its ready pods",
            Self::Host => "that pod's address",
            Self::Port => "the port, and whose it is",
            Self::Reverse => "the Service's name",
            Self::External => "what its name server says",
            Self::Absent => "no such name",
        }
    }
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Service => "a Service (A, AAAA)",
            Self::Headless => "a headless Service (A, AAAA)",
            Self::Host => "a pod of a headless Service (A, AAAA)",
            Self::Port => "a Service's port (SRV)",
            Self::Reverse => "a Service's address (PTR)",
            Self::External => "an external name (A, AAAA)",
            Self::Absent => "a name that nobody has",
        })
    }
}

#[cfg(test)]
mod tests;
