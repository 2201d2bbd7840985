//! Pods to nodes.

use super::{NewPod, Note};
use crate::{
    error::Error,
    model::{Node, NodeSelector, ObjectKey, Pod, Requirement, RequirementOperator},
};
use std::{collections::HashMap, sync::Arc};

/// Gives every pod a node: the one it names, else of those that match the one with the fewest pods of the same
/// workload, then with the fewest pods, then the first. A pod for which there is none stays without, with a note.
pub(super) fn place(pods: Vec<NewPod>, nodes: &[Arc<Node>], notes: &mut Vec<Note>) -> Result<Vec<Pod>, Error> {
    if nodes.is_empty() && !pods.is_empty() {
        return Err(Error::NoNodes);
    }
    let mut load = Load::new(nodes);
    // Those that are bound first, so that the others go where there is room.
    for pod in &pods {
        if let Some(name) = &pod.pod.node {
            load.add(name, pod.workload.as_ref());
        }
    }
    let mut placed = Vec::with_capacity(pods.len());
    for mut new in pods {
        match &new.pod.node {
            Some(name) if load.has(name) => {}
            Some(name) => {
                let message = format!("not placed: it wants node {name}, which does not exist");
                notes.push(Note { object: new.key(), message });
                new.pod.node = None;
            }
            None => {
                let fits = |node: &Node| !node.unschedulable && matches(&new.scheduling.nodes, node);
                new.pod.node = load.least(new.workload.as_ref(), fits);
                match &new.pod.node {
                    Some(name) => load.add(name, new.workload.as_ref()),
                    None => {
                        let message =
                            "not placed: no schedulable node matches its nodeSelector and affinity".to_owned();
                        notes.push(Note { object: new.key(), message });
                    }
                }
            }
        }
        placed.push(new.pod);
    }
    Ok(placed)
}

/// Whether a node will do: it has all labels, and what one of the terms asks for.
pub(super) fn matches(selector: &NodeSelector, node: &Node) -> bool {
    let has = |(key, value): (&String, &String)| node.labels.get(key) == Some(value);
    // A term without requirements matches nothing, as the API says.
    let meets = |term: &Vec<Requirement>| !term.is_empty() && term.iter().all(|requirement| requirement.holds(node));
    selector.labels.iter().all(has) && (selector.terms.is_empty() || selector.terms.iter().any(meets))
}

/// How many pods the nodes have, by the place of a node in the input.
struct Load<'a> {
    nodes: &'a [Arc<Node>],
    places: HashMap<&'a str, usize>,
    pods: Vec<usize>,
    of_workload: HashMap<ObjectKey, Vec<usize>>,
}

impl<'a> Load<'a> {
    fn new(nodes: &'a [Arc<Node>]) -> Self {
        let places = nodes.iter().enumerate().map(|(place, node)| (&*node.name, place)).collect();
        Self { nodes, places, pods: vec![0; nodes.len()], of_workload: HashMap::new() }
    }

    fn has(&self, node: &str) -> bool {
        self.places.contains_key(node)
    }

    fn add(&mut self, node: &str, workload: Option<&ObjectKey>) {
        let Some(&place) = self.places.get(node) else { return };
        self.pods[place] += 1;
        if let Some(workload) = workload {
            let none = || vec![0; self.nodes.len()];
            self.of_workload.entry(workload.clone()).or_insert_with(none)[place] += 1;
        }
    }

    /// The least loaded of the nodes that fit.
    fn least(&self, workload: Option<&ObjectKey>, fits: impl Fn(&Node) -> bool) -> Option<Arc<str>> {
        let same = workload.and_then(|workload| self.of_workload.get(workload));
        let load = |place: usize| (same.map_or(0, |same| same[place]), self.pods[place]);
        let fitting = self.nodes.iter().enumerate().filter(|(_, node)| fits(node));
        fitting.min_by_key(|(place, _)| load(*place)).map(|(_, node)| node.name.clone())
    }
}

// === impl Requirement ===

impl Requirement {
    /// Whether it holds for a node. A label that is not there is in no set and compares with nothing.
    fn holds(&self, node: &Node) -> bool {
        use RequirementOperator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
        let label = match self.key.as_str() {
            "metadata.name" => Some(&*node.name),
            key => node.labels.get(key).map(String::as_str),
        };
        let is_in = |label: &str| self.values.iter().any(|value| value == label);
        let compare = |holds: fn(&i64, &i64) -> bool| {
            let value = self.values.first().and_then(|value| value.parse().ok());
            let label = label.and_then(|label| label.parse().ok());
            matches!((label, value), (Some(label), Some(value)) if holds(&label, &value))
        };
        match self.operator {
            In => label.is_some_and(is_in),
            NotIn => !label.is_some_and(is_in),
            Exists => label.is_some(),
            DoesNotExist => label.is_none(),
            Gt => compare(i64::gt),
            Lt => compare(i64::lt),
        }
    }
}
