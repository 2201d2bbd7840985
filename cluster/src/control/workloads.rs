//! Workloads into pods.

use super::{MAX_PODS, NewPod, Note, place, uid};
use crate::{
    error::Error,
    model::{Kind, Node, Object, ObjectKey, Owner, Pod, PodKey, PodPhase, Scheduling, Workload, meta},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What Kubernetes cuts names to before it adds five characters: 63, a label of DNS, less those.
const MAX_BASE: usize = 58;

/// Makes the pods of all workloads, beside those that stand for themselves. What a workload of the input controls is
/// not taken a second time: it is made from the workload.
pub(super) fn expand(
    workloads: &[Arc<Workload>],
    pods: &[(Arc<Pod>, Scheduling)],
    nodes: &[Arc<Node>],
    notes: &mut Vec<Note>,
) -> Result<Vec<NewPod>, Error> {
    let present: BTreeSet<ObjectKey> = workloads.iter().map(|workload| workload.key()).collect();
    let is_controlled = |namespace: &Arc<str>, owner: &Option<Owner>| {
        let key = owner.as_ref().and_then(|owner| owner.key(namespace));
        key.is_some_and(|key| present.contains(&key))
    };
    let own: Vec<_> =
        workloads.iter().filter(|workload| !is_controlled(&workload.namespace, &workload.controller)).collect();
    check_size(&own, pods.len(), nodes.len())?;
    let mut names = BTreeSet::new();
    let mut new_pods = Vec::new();
    for (pod, scheduling) in pods.iter().filter(|(pod, rest)| !is_controlled(&pod.namespace, &rest.controller)) {
        if pod.ended() {
            let object = Object::Pod(pod.clone(), None).key();
            notes.push(Note { object, message: format!("has ended ({}), not run", pod.phase) });
            continue;
        }
        names.insert(pod.key());
        new_pods.push(NewPod { pod: as_new(pod), scheduling: scheduling.clone(), workload: None });
    }
    for workload in own {
        if workload.kind == Kind::CronJob {
            notes.push(Note { object: workload.key(), message: "not run: nobody waits for its time".to_owned() });
            continue;
        }
        new_pods.extend(Expansion::new(workload, nodes).pods(&mut names));
    }
    Ok(new_pods)
}

/// Refuses more pods than anybody means, before they are made.
fn check_size(workloads: &[&Arc<Workload>], pods: usize, nodes: usize) -> Result<(), Error> {
    let count = |workload: &Workload| match workload.kind {
        Kind::DaemonSet => nodes,
        _ => workload.replicas as usize,
    };
    let total = workloads.iter().fold(pods, |total, workload| total.saturating_add(count(workload)));
    if total <= MAX_PODS {
        return Ok(());
    }
    let largest = workloads.iter().max_by_key(|workload| count(workload));
    let largest = largest.map_or_else(|| "bare pods".to_owned(), |workload| workload.key().to_string());
    Err(Error::TooManyPods { count: total, limit: MAX_PODS, largest })
}

/// A pod as if it had just been made: what another cluster's node said of it does not hold here.
fn as_new(pod: &Arc<Pod>) -> Pod {
    let mut pod =
        Pod { addresses: Vec::new(), phase: PodPhase::Pending, ready: false, terminating: false, ..Pod::clone(pod) };
    if pod.uid.is_empty() {
        pod.uid = uid(&Object::Pod(Arc::new(pod.clone()), None).key(), "");
    }
    pod
}

/// One workload becoming pods.
struct Expansion<'a> {
    workload: &'a Workload,
    nodes: &'a [Arc<Node>],
    /// What the names of its pods begin with.
    base: String,
    /// The labels that its controllers add.
    labels: BTreeMap<String, String>,
}

impl<'a> Expansion<'a> {
    fn new(workload: &'a Workload, nodes: &'a [Arc<Node>]) -> Self {
        let name = &workload.name;
        let label = |key: &str, value: String| (key.to_owned(), value);
        let (base, labels) = match workload.kind {
            Kind::Deployment => {
                let hash = template_hash(workload);
                (format!("{name}-{hash}-"), vec![label("pod-template-hash", hash)])
            }
            Kind::DeploymentConfig => {
                let labels =
                    vec![label("deploymentconfig", name.to_string()), label("deployment", format!("{name}-1"))];
                (format!("{name}-1-"), labels)
            }
            Kind::Job => {
                let labels =
                    vec![label("job-name", name.to_string()), label("batch.kubernetes.io/job-name", name.to_string())];
                (format!("{name}-"), labels)
            }
            _ => (format!("{name}-"), Vec::new()),
        };
        Self { workload, nodes, base, labels: labels.into_iter().collect() }
    }

    fn pods(&self, names: &mut BTreeSet<PodKey>) -> Vec<NewPod> {
        match self.workload.kind {
            Kind::DaemonSet => {
                let fits =
                    |node: &&Arc<Node>| place::matches(&self.workload.template.nodes, node) && self.may_run_on(node);
                let pod = |node: &Arc<Node>| self.pod(self.random_name(&node.name, names), BTreeMap::new(), Some(node));
                self.nodes.iter().filter(fits).map(pod).collect()
            }
            Kind::StatefulSet => {
                let first = self.workload.first_ordinal;
                (first..first.saturating_add(self.workload.replicas))
                    .map(|ordinal| self.stateful_pod(ordinal, names))
                    .collect()
            }
            _ => {
                let pod = |index: u32| self.pod(self.random_name(&index.to_string(), names), BTreeMap::new(), None);
                (0..self.workload.replicas).map(pod).collect()
            }
        }
    }

    fn stateful_pod(&self, ordinal: u32, names: &mut BTreeSet<PodKey>) -> NewPod {
        let name = format!("{}{ordinal}", self.base);
        names.insert(PodKey::new(self.workload.namespace.clone(), name.as_str()));
        let labels = BTreeMap::from([
            ("statefulset.kubernetes.io/pod-name".to_owned(), name.clone()),
            ("apps.kubernetes.io/pod-index".to_owned(), ordinal.to_string()),
        ]);
        let mut new = self.pod(name, labels, None);
        // So that the Service it names gives each pod a name of its own.
        new.pod.hostname = Some(new.pod.name.clone()).filter(|name| name.len() <= 63);
        new
    }

    fn pod(&self, name: String, labels: BTreeMap<String, String>, node: Option<&Arc<Node>>) -> NewPod {
        let Workload { kind, namespace, uid: workload_uid, template, .. } = self.workload;
        let name: Arc<str> = name.into();
        let key = ObjectKey { kind: Kind::Pod, namespace: namespace.clone(), name: name.clone() };
        let own = template.labels.clone().into_iter();
        let pod = Pod {
            namespace: namespace.clone(),
            uid: uid(&key, &format!("{kind}#{workload_uid}")),
            name,
            labels: own.chain(self.labels.clone()).chain(labels).collect(),
            annotations: template.annotations.clone(),
            node: node.map(|node| node.name.clone()).or_else(|| template.node.clone()),
            host_network: template.host_network,
            hostname: template.hostname.clone(),
            subdomain: template.subdomain.clone(),
            ports: template.ports.clone(),
            ..Pod::default()
        };
        let scheduling = Scheduling { nodes: template.nodes.clone(), controller: None };
        NewPod { pod, scheduling, workload: Some(self.workload.key()) }
    }

    /// A name that ends like a random one and is the same every time; `seed` tells the pods of a workload apart.
    fn random_name(&self, seed: &str, names: &mut BTreeSet<PodKey>) -> String {
        let base = &self.base[..self.base.floor_char_boundary(MAX_BASE)];
        let key = self.workload.key();
        let candidates = (0u32..).map(|again| format!("{base}{}", meta::suffix(&format!("{key}#{seed}#{again}"))));
        candidates
            .into_iter()
            .find(|name| names.insert(PodKey::new(self.workload.namespace.clone(), name.as_str())))
            .expect("a namespace has fewer pods than there are names")
    }

    /// A DaemonSet that names a node runs there only.
    fn may_run_on(&self, node: &Node) -> bool {
        self.workload.template.node.as_ref().is_none_or(|name| *name == node.name)
    }
}

/// What the name of a Deployment's ReplicaSet ends with. It changes with the template's labels and ports.
fn template_hash(workload: &Workload) -> String {
    let mut text = workload.key().to_string();
    for (key, value) in &workload.template.labels {
        text += &format!(",{key}={value}");
    }
    for port in &workload.template.ports {
        text += &format!(",{}:{}/{}", port.name.as_deref().unwrap_or_default(), port.port, port.protocol);
    }
    meta::suffix(&text) + &meta::suffix(&format!("{text}#"))[..4]
}

// === impl Workload ===

impl Workload {
    /// Its kind, namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: self.kind, namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

// === impl Owner ===

impl Owner {
    /// The key of what it refers to, for an object in `namespace`; `None` for kinds that we do not model.
    fn key(&self, namespace: &Arc<str>) -> Option<ObjectKey> {
        Some(ObjectKey { kind: self.kind?, namespace: namespace.clone(), name: self.name.clone() })
    }
}
