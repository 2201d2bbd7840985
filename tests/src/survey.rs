//! Who reaches whom in a lab: every question that ought to be answered, and some that must not be.
//!
//! The questions are planned first, all asked at once then, a few at a time from each place, and counted at the end. Those that
//! must not be answered have to show up in the agents' own drop counts, under the right reason.

mod drops;
pub mod names;
mod plan;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use crate::family::IpFamily;
use crate::lab::Lab;
use crate::probe::{self, Outcome};
use crate::sandbox::Sandbox;

pub use drops::{Drops, ReasonCount};

/// How long an answer may take that has to come, and how long one is waited for that must not.
const PATIENCE: Duration = Duration::from_secs(3);
const DROP_PATIENCE: Duration = Duration::from_millis(1200);

/// Questions that one place has open at the same time, and places that ask at the same time.
const OPEN_QUESTIONS: usize = 16;
const ASKING_PLACES: usize = 8;

/// The ways through the network, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Between pods of one node.
    PodToPodSameNode,
    /// Between pods of different nodes.
    PodToPodAcross,
    /// From a pod to the node that it is on.
    PodToOwnNode,
    /// From a pod to another node.
    PodToOtherNode,
    /// From a node to a pod of its own.
    NodeToOwnPod,
    /// From a node to another node's pod.
    NodeToOtherPod,
    /// From a pod to the internet.
    PodToOutside,
    /// A pod sends from another pod's address.
    ForgedSource,
    /// A pod sends to the port of the tunnel.
    PodToVxlan,
    /// A pod asks the metadata address.
    PodToMetadata,
    /// A pod asks a node's machine configuration server.
    PodToMachineConfig,
}

/// How a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// HTTP over TCP.
    Http(SocketAddr),
    /// A UDP datagram.
    Datagram(SocketAddr),
    /// An ICMP echo request.
    Ping(IpAddr),
    /// A UDP datagram from somebody else's address.
    Forged {
        /// Whose.
        source: IpAddr,
        /// To whom.
        target: SocketAddr,
    },
}

/// What should come of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// An answer from this pod or host, which sees one of these addresses as the client's. A ping's answer says neither.
    Answer {
        /// `namespace/name`, or a host's name.
        who: String,
        /// The client's address as it should be seen.
        seen_as: Vec<IpAddr>,
    },
    /// No answer: the packet is dropped for this reason, by the agent's name for it.
    Dropped(&'static str),
}

/// Where a question is asked.
#[derive(Debug, Clone)]
pub struct Place {
    /// `namespace/name` of a pod, or a node's name.
    pub name: String,
    /// Its node.
    pub node: String,
    sandbox: Sandbox,
}

/// A question with all that belongs to it.
#[derive(Debug, Clone)]
pub struct Check {
    /// The way through the network.
    pub path: Path,
    /// The IP family.
    pub family: IpFamily,
    /// Who asks.
    pub from: Arc<Place>,
    /// What is asked.
    pub question: Question,
    /// What should come of it.
    pub expected: Expected,
}

/// A check and what is wrong with what came of it.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The check.
    pub check: Check,
    /// What went otherwise than expected.
    pub fault: Option<String>,
}

/// All that was found out.
#[derive(Debug)]
pub struct Survey {
    /// Every check.
    pub checked: Vec<Checked>,
    /// What the agents had dropped before.
    pub drops_before: Drops,
    /// What they had dropped afterwards.
    pub drops_after: Drops,
}

/// Counts of the checks of one path, family and kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Asked.
    pub tried: usize,
    /// As expected.
    pub well: usize,
}

/// Plans, asks and counts. `progress` is told how many of how many questions are done.
pub fn survey(lab: &Lab, progress: impl Fn(usize, usize) + Sync) -> Result<Survey> {
    let checks = plan::plan(lab)?;
    let drops_before = Drops::read(lab)?;
    let checked = ask_all(checks, progress)?;
    let drops_after = Drops::read(lab)?;
    Ok(Survey { checked, drops_before, drops_after })
}

/// Asks from several places at once.
fn ask_all(checks: Vec<Check>, progress: impl Fn(usize, usize) + Sync) -> Result<Vec<Checked>> {
    let total = checks.len();
    let mut by_place: BTreeMap<String, Vec<Check>> = BTreeMap::new();
    for check in checks {
        by_place.entry(check.from.name.clone()).or_default().push(check);
    }
    let (queue, done) = (Mutex::new(by_place.into_values().collect::<VecDeque<_>>()), AtomicUsize::new(0));
    let next = || queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front();
    let report = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
    thread::scope(|scope| {
        let ask = || {
            let mut checked = vec![];
            while let Some(checks) = next() {
                checked.extend(ask_from_place(checks, &report)?);
            }
            anyhow::Ok(checked)
        };
        let places: Vec<_> = (0..ASKING_PLACES).map(|_| scope.spawn(ask)).collect();
        let mut checked = vec![];
        for place in places {
            checked.extend(place.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(checked)
    })
}

/// Asks the questions of one place, from inside it.
fn ask_from_place(checks: Vec<Check>, report: &(impl Fn() + Sync)) -> Result<Vec<Checked>> {
    // Only non-empty lists are queued.
    let sandbox = checks.first().context("a place without questions")?.from.sandbox.clone();
    sandbox.within_async(async || {
        let mut waiting = checks.into_iter();
        let (mut asking, mut checked) = (JoinSet::new(), vec![]);
        waiting.by_ref().take(OPEN_QUESTIONS).for_each(|check| drop(asking.spawn(ask(check))));
        while let Some(answered) = asking.join_next().await {
            checked.push(answered.context("a question ended without an outcome")?);
            report();
            if let Some(check) = waiting.next() {
                asking.spawn(ask(check));
            }
        }
        Ok(checked)
    })
}

async fn ask(check: Check) -> Checked {
    let patience = if matches!(check.expected, Expected::Dropped(_)) { DROP_PATIENCE } else { PATIENCE };
    let fault = match check.question {
        Question::Http(target) => check.expected.fault(&probe::http(target, patience).await),
        Question::Datagram(target) => check.expected.fault(&probe::datagram(target, patience).await),
        Question::Ping(target) => check.expected.fault(&probe::ping(target, patience).await),
        // Whether it was dropped is for the agent's count to say.
        Question::Forged { source, target } => {
            probe::forged_datagram(source, target).await.err().map(|error| format!("cannot be sent: {error}"))
        }
    };
    Checked { check, fault }
}

// === impl Expected ===

impl Expected {
    fn fault(&self, outcome: &Outcome) -> Option<String> {
        match (self, outcome) {
            (Self::Dropped(_), Err(_)) => None,
            (Self::Dropped(reason), Ok(_)) => Some(format!("was answered, and should have been dropped as {reason}")),
            (Self::Answer { .. }, Err(failure)) => Some(failure.to_string()),
            (Self::Answer { who, seen_as }, Ok(reply)) => {
                let answer = reply.answer.as_ref()?;
                let answerer = answer.who.to_string();
                if answerer != *who {
                    return Some(format!("answered by {answerer} in place of {who}"));
                }
                let seen = answer.client_address;
                (!seen_as.contains(&seen)).then(|| format!("seen as coming from {seen}, not from {seen_as:?}"))
            }
        }
    }
}

// === impl Survey ===

impl Survey {
    /// The checks by path, family and kind of question.
    pub fn counts(&self) -> BTreeMap<(Path, IpFamily, &'static str), Count> {
        let mut counts: BTreeMap<_, Count> = BTreeMap::new();
        for Checked { check, fault } in &self.checked {
            let count = counts.entry((check.path, check.family, check.question.kind())).or_default();
            count.tried += 1;
            count.well += usize::from(fault.is_none());
        }
        counts
    }

    /// Packets of `reason` that the agents dropped during the survey.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops_after.packets(reason).saturating_sub(self.drops_before.packets(reason))
    }

    /// Whether everything of a path was as expected, and what had to be dropped was counted.
    pub fn is_well(&self, path: Path, family: IpFamily) -> bool {
        let mut checks =
            self.checked.iter().filter(|checked| (checked.check.path, checked.check.family) == (path, family));
        checks.all(|Checked { check, fault }| match check.expected {
            _ if fault.is_some() => false,
            Expected::Dropped(reason) => self.dropped(reason) >= self.sent_to_be_dropped(reason),
            Expected::Answer { .. } => true,
        })
    }

    /// All that was not as expected, a line each.
    pub fn faults(&self) -> Vec<String> {
        let of_checks =
            self.checked.iter().filter_map(|Checked { check, fault }| Some(format!("{check}: {}", fault.as_ref()?)));
        of_checks.chain(self.uncounted()).collect()
    }

    /// Reasons under which the agents counted less than was sent for them to drop.
    fn uncounted(&self) -> Vec<String> {
        let forbidden = |checked: &Checked| match checked.check.expected {
            Expected::Dropped(reason) => Some(reason),
            Expected::Answer { .. } => None,
        };
        let reasons: BTreeSet<_> = self.checked.iter().filter_map(forbidden).collect();
        let sent = reasons.into_iter().map(|reason| (reason, self.sent_to_be_dropped(reason), self.dropped(reason)));
        sent.filter(|(_, sent, dropped)| dropped < sent)
            .map(|(reason, sent, dropped)| {
                format!("{sent} packets to be dropped as {reason}, but the agents counted {dropped}")
            })
            .collect()
    }

    fn sent_to_be_dropped(&self, reason: &str) -> u64 {
        let wanted = |checked: &&Checked| matches!(checked.check.expected, Expected::Dropped(given) if given == reason);
        self.checked.iter().filter(wanted).count() as u64
    }
}

// === impl Check, Path, Question ===

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, from, question, .. } = self;
        write!(f, "{path}: {} (on {}) {question}", from.name, from.node)?;
        match &self.expected {
            Expected::Answer { who, .. } => write!(f, " of {who}"),
            Expected::Dropped(_) => Ok(()),
        }
    }
}

impl Path {
    /// What is expected of it, for people.
    pub fn expectation(self) -> &'static str {
        match self {
            Self::PodToOutside => "answer; the outside sees the node",
            Self::NodeToOwnPod | Self::NodeToOtherPod => "answer; the pod sees the node",
            path if path.is_forbidden() => "dropped and counted",
            _ => "answer; the pod's address is seen",
        }
    }

    /// Whether no packet may get through.
    pub fn is_forbidden(self) -> bool {
        matches!(self, Self::ForgedSource | Self::PodToVxlan | Self::PodToMetadata | Self::PodToMachineConfig)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PodToPodSameNode => "pod to pod, same node",
            Self::PodToPodAcross => "pod to pod, across nodes",
            Self::PodToOwnNode => "pod to its own node",
            Self::PodToOtherNode => "pod to another node",
            Self::NodeToOwnPod => "node to its own pod",
            Self::NodeToOtherPod => "node to another node's pod",
            Self::PodToOutside => "pod to the outside",
            Self::ForgedSource => "pod with a forged source",
            Self::PodToVxlan => "pod to the tunnel's port",
            Self::PodToMetadata => "pod to the metadata address",
            Self::PodToMachineConfig => "pod to a node's configuration server",
        })
    }
}

impl Question {
    /// The column that it belongs to.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Http(_) => "TCP",
            Self::Datagram(_) | Self::Forged { .. } => "UDP",
            Self::Ping(_) => "PING",
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(target) => write!(f, "asks {target} by HTTP"),
            Self::Datagram(target) => write!(f, "asks {target} by UDP"),
            Self::Ping(target) => write!(f, "pings {target}"),
            Self::Forged { source, target } => write!(f, "sends to {target} as {source}"),
        }
    }
}

#[cfg(test)]
mod tests;
