//! `sdnctl matrix`: who may talk to whom, of all pairs of some manifests' pods, without a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sdn_cluster::control::services::ServiceRanges;
use sdn_cluster::control::{self};
use sdn_cluster::model::{Object, Pod, PodKey, Protocol};
use sdn_cluster::network::{ClusterNetworks, DEFAULT_V4, DEFAULT_V6};
use sdn_cluster::verdict::{Decision, End, Family, Flow, Traffic, verdict};
use sdn_cluster::{Error, Snapshot};
use serde::{Serialize, Serializer};

use super::check;
use super::command::{MatrixArgs, Port};
use crate::terminal::Terminal;

/// How the answers are found. The yardstick reads the policies literally for each question.
const ENGINE: &str = "yardstick";

/// One pair and port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// `namespace/name` of a pod, or an address outside.
    from: String,
    /// Likewise.
    to: String,
    /// Destination port.
    port: u16,
    /// Its protocol.
    #[serde(serialize_with = "as_text")]
    protocol: Protocol,
    /// The destination's side.
    ingress_allowed: bool,
    /// The source's side.
    egress_allowed: bool,
    /// Both.
    allowed: bool,
    /// Who says so.
    by: By,
    /// How the answer was found.
    engine: &'static str,
}

/// Who decides, for each side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct By {
    ingress: Author,
    egress: Author,
}

/// One side's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Author {
    /// `admitted`, `isolated`, `not_isolated`, `itself`, `own_node`, `not_subject`.
    decision: &'static str,
    /// The policy that admits or isolates, `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    /// The rule that admits: its index in spec.ingress or spec.egress.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<usize>,
}

/// One state of `--steps`.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) step: String,
    pub(super) rows: Vec<Row>,
}

/// A cluster to ask about.
pub(super) struct Matrix {
    snapshot: Snapshot,
    ports: BTreeSet<Port>,
    external: Vec<IpAddr>,
}

fn as_text<S: Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(protocol.as_str())
}

/// The states that were asked for, each with its name, and what is wrong with the manifests.
pub(super) fn states(arguments: &MatrixArgs) -> Result<(Vec<(String, Matrix)>, check::Report), super::Error> {
    let mut problems = check::Report::default();
    let mut states = Vec::new();
    for (name, paths) in sources(arguments)? {
        let contents = check::read(&paths)?;
        problems.problems.extend(contents.report.problems);
        states.push((name, Matrix::new(contents.objects, arguments)?));
    }
    Ok((states, problems))
}

/// The manifests of each state: those of `-f`, and with `--steps` those of each subdirectory beside them.
fn sources(arguments: &MatrixArgs) -> Result<Vec<(String, Vec<PathBuf>)>, super::Error> {
    let Some(steps) = &arguments.steps else { return Ok(vec![(String::new(), arguments.files.clone())]) };
    let unreadable = |source| super::Error::Steps { path: steps.clone(), source };
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(steps).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let with_files = |path: PathBuf| (name(&path), arguments.files.iter().cloned().chain([path]).collect());
    Ok(folders.into_iter().map(with_files).collect())
}

// === impl Matrix ===

impl Matrix {
    fn new(objects: Vec<Object>, arguments: &MatrixArgs) -> Result<Self, Error> {
        let given: BTreeMap<PodKey, Arc<Pod>> = objects
            .iter()
            .filter_map(|object| match object {
                Object::Pod(pod, _) => Some((pod.key(), pod.clone())),
                _ => None,
            })
            .collect();
        let networks = ClusterNetworks::new(vec![DEFAULT_V4, DEFAULT_V6], &[])?;
        let mut derived = control::derive(objects, control::nodes(1), &networks, &ServiceRanges::default())?;
        for pod in &mut derived.pods {
            // What was observed of a pod is not derived, but here it is what the policies' blocks are about.
            if let Some(given) = given.get(&pod.key()).filter(|given| !given.addresses.is_empty()) {
                Arc::make_mut(pod).addresses.clone_from(&given.addresses);
            }
        }
        control::assign_addresses(&mut derived.pods, &derived.nodes)?;
        let snapshot = Snapshot {
            nodes: derived.nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
            namespaces: derived.namespaces.into_iter().map(|namespace| (namespace.name.clone(), namespace)).collect(),
            pods: derived.pods.into_iter().map(|pod| (pod.key(), pod)).collect(),
            policies: derived.policies.into_iter().map(|policy| (policy.key(), policy)).collect(),
            synced: true,
            ..Snapshot::default()
        };
        let declared = snapshot.pods.values().flat_map(|pod| &pod.ports);
        let declared = declared.map(|port| Port { number: port.port, protocol: port.protocol });
        let ports = match arguments.ports.is_empty() {
            true => declared.collect(),
            false => arguments.ports.iter().copied().collect(),
        };
        Ok(Self { snapshot, ports, external: arguments.external.clone() })
    }

    /// Every pair and port. Pairs that have no family in common are left out.
    pub(super) fn rows(&self) -> Vec<Row> {
        let pods = self.snapshot.pods.values().filter(|pod| !pod.ended());
        let pods = pods.map(|pod| (End::Pod(pod.key()), pod.addresses.clone()));
        let external = self.external.iter().map(|address| (End::Address(*address), vec![*address]));
        let ends: Vec<(End, Vec<IpAddr>)> = pods.chain(external).collect();
        let mut rows = Vec::new();
        for (from, sources) in &ends {
            for (to, destinations) in &ends {
                let outside = [from, to].into_iter().all(|end| matches!(end, End::Address(_)));
                let Some(family) = common_family(sources, destinations).filter(|_| !outside) else { continue };
                rows.extend(self.ports.iter().map(|port| self.row(from, to, family, *port)));
            }
        }
        rows
    }

    fn row(&self, from: &End, to: &End, family: Family, Port { number, protocol }: Port) -> Row {
        let traffic = Traffic::Port { protocol, port: number };
        let answer = verdict(&self.snapshot, &Flow { from: from.clone(), to: to.clone(), family, traffic });
        Row {
            from: from.to_string(),
            to: to.to_string(),
            port: number,
            protocol,
            ingress_allowed: answer.ingress_allowed(),
            egress_allowed: answer.egress_allowed(),
            allowed: answer.allowed(),
            by: By { ingress: Author::of(&answer.ingress), egress: Author::of(&answer.egress) },
            engine: ENGINE,
        }
    }
}

/// The first of the source's families that the destination has as well.
fn common_family(sources: &[IpAddr], destinations: &[IpAddr]) -> Option<Family> {
    let families = |addresses: &[IpAddr]| addresses.iter().map(|address| Family::of(*address)).collect::<Vec<_>>();
    let there = families(destinations);
    families(sources).into_iter().find(|family| there.contains(family))
}

// === impl Author ===

impl Author {
    fn of(decision: &Decision) -> Self {
        let (decision, policy, rule) = match decision {
            Decision::NotSubject => ("not_subject", None, None),
            Decision::NotIsolated => ("not_isolated", None, None),
            Decision::Itself => ("itself", None, None),
            Decision::OwnNode => ("own_node", None, None),
            Decision::Admitted { policy, rule } => ("admitted", Some(policy.to_string()), Some(*rule)),
            Decision::Isolated { by } => ("isolated", Some(by.to_string()), None),
            Decision::Unknown => ("unknown", None, None),
        };
        Self { decision, policy, rule }
    }

    fn text(&self) -> String {
        match (&self.policy, self.rule) {
            (Some(policy), Some(rule)) => format!("{policy}[{rule}]"),
            (Some(policy), None) => format!("isolated by {policy}"),
            (None, _) => self.decision.replace('_', " "),
        }
    }
}

/// For people: a line a pair and port, with a head that says how the answers were found.
pub(super) fn table(name: &str, rows: &[Row], terminal: Terminal) -> String {
    let allowed = rows.iter().filter(|row| row.allowed).count();
    let step = if name.is_empty() { String::new() } else { format!("{name}: ") };
    let head = format!("{step}{} of {} allowed (engine: {ENGINE}: the policies read literally)\n", allowed, rows.len());
    let yes = |allowed: bool| if allowed { "yes" } else { "no" }.to_owned();
    let row = |row: &Row| {
        let port = format!("{}/{}", row.port, row.protocol);
        let (egress, ingress) = (row.by.egress.text(), row.by.ingress.text());
        [row.from.clone(), row.to.clone(), port, yes(row.allowed), egress, ingress]
    };
    let titles = ["FROM", "TO", "PORT", "ALLOWED", "EGRESS", "INGRESS"];
    format!("{head}{}", terminal.table(titles, rows.iter().map(row)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;
    use serde_json::{Value, json};

    use super::super::command::{Action, Command};
    use super::*;

    const SHOP: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, ports: [{containerPort: 8080, name: http}]}]}
status: {podIP: 10.128.0.77}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {containers: [{name: c}]}
";

    const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{port: http}]
";

    fn arguments(line: &[&str]) -> MatrixArgs {
        match Command::parse_from([&["sdnctl", "matrix"], line].concat()).action {
            Action::Matrix(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    fn short(rows: &[Row]) -> Vec<(String, bool)> {
        rows.iter()
            .map(|row| (format!("{} → {} {}/{}", row.from, row.to, row.port, row.protocol), row.allowed))
            .collect()
    }

    #[test]
    fn every_pair_and_port_has_a_row() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.yaml");
        fs::write(&path, format!("{SHOP}---{POLICY}")).unwrap();
        let path = path.to_str().unwrap();
        let (states, problems) = states(&arguments(&["-f", path, "--external", "203.0.113.7"])).unwrap();
        assert_eq!(problems.problems, []);
        let rows = states[0].1.rows();
        let expected = [
            ("shop/client → shop/client 8080/TCP", true),
            ("shop/client → shop/web 8080/TCP", true),
            ("shop/client → 203.0.113.7 8080/TCP", true),
            ("shop/web → shop/client 8080/TCP", true),
            ("shop/web → shop/web 8080/TCP", true),
            ("shop/web → 203.0.113.7 8080/TCP", true),
            ("203.0.113.7 → shop/client 8080/TCP", true),
            ("203.0.113.7 → shop/web 8080/TCP", false),
        ];
        assert_eq!(short(&rows), expected.map(|(row, allowed)| (row.to_owned(), allowed)));
        let json: Value = serde_json::to_value(&rows[1]).unwrap();
        let by = json!({"ingress": {"decision": "admitted", "policy": "shop/web", "rule": 0}, "egress": {"decision": "not_isolated"}});
        let expected = json!({
            "from": "shop/client", "to": "shop/web", "port": 8080, "protocol": "TCP",
            "ingress_allowed": true, "egress_allowed": true, "allowed": true, "by": by, "engine": "yardstick",
        });
        assert_eq!(json, expected);
        assert_eq!(
            states[0].1.snapshot.pods[&PodKey::new("shop", "web")].addresses,
            ["10.128.0.77".parse::<IpAddr>().unwrap()]
        );
        let table = table("", &rows, Terminal::NONE);
        assert!(table.starts_with("7 of 8 allowed (engine: yardstick"), "{table}");
        assert!(table.contains("isolated by shop/web"), "{table}");
    }

    #[test]
    fn ports_are_those_that_are_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.yaml");
        fs::write(&path, format!("{SHOP}---{POLICY}")).unwrap();
        let (states, _) = states(&arguments(&["-f", path.to_str().unwrap(), "--ports", "80/TCP,53/UDP"])).unwrap();
        let rows: Vec<_> = short(&states[0].1.rows())
            .into_iter()
            .filter(|(row, _)| row.starts_with("shop/client → shop/web"))
            .collect();
        let expected = [("shop/client → shop/web 53/UDP", false), ("shop/client → shop/web 80/TCP", false)];
        assert_eq!(rows, expected.map(|(row, allowed)| (row.to_owned(), allowed)));
        for wrong in ["80", "80/ICMP", "0/TCP", "x/TCP"] {
            assert!(Command::try_parse_from(["sdnctl", "matrix", "-f", "x", "--ports", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn steps_are_states_in_the_order_of_their_names() {
        let directory = tempfile::tempdir().unwrap();
        for (name, contents) in [("1-open", SHOP.to_owned()), ("2-closed", format!("{SHOP}---{POLICY}"))] {
            let folder = directory.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("all.yaml"), contents).unwrap();
        }
        let path = directory.path().to_str().unwrap();
        let (states, _) = states(&arguments(&["--steps", path, "--external", "203.0.113.7"])).unwrap();
        let denied = |matrix: &Matrix| matrix.rows().iter().filter(|row| !row.allowed).count();
        let found: Vec<_> = states.iter().map(|(name, matrix)| (name.as_str(), denied(matrix))).collect();
        assert_eq!(found, [("1-open", 0), ("2-closed", 1)]);
    }
}
