//! `sdnctl check`: manifests, read as the agent reads them, without a cluster.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use sdn_cluster::model::{Kind, Object};
use sdn_cluster::source::{self, manifests};
use serde::Serialize;

/// What is in some manifests.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Objects that can be used, by kind.
    objects: BTreeMap<String, usize>,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// Kinds that are not used.
    unused: Vec<Unused>,
}

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// The file.
    file: PathBuf,
    /// Its line, counted from 1; 0 for the file as a whole.
    line: usize,
    /// The object, as `NetworkPolicy shop/web`; empty where it cannot be told.
    object: String,
    /// The field; empty for the document as a whole.
    field: String,
    /// What is wrong with it.
    message: String,
    /// All of that in one line.
    #[serde(skip)]
    text: String,
}

/// A kind that is not used.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unused {
    api_version: String,
    kind: String,
    count: usize,
}

/// Objects and what is wrong beside them.
pub(super) struct Contents {
    pub(super) objects: Vec<Object>,
    pub(super) report: Report,
}

/// Reads manifests. An object of the same kind and name in several of them is an object of the first.
pub(super) fn read(paths: &[PathBuf]) -> Result<Contents, sdn_cluster::Error> {
    let (mut objects, mut report) = (BTreeMap::new(), Report::default());
    for path in paths {
        let manifests::Contents { objects: found, problems, unused } = manifests::read(path, Kind::ALL)?;
        for object in found {
            match objects.entry(object.key()) {
                Entry::Vacant(free) => drop(free.insert(object)),
                Entry::Occupied(taken) => report.problems.push(Problem::doubled(path, &taken.key().to_string())),
            }
        }
        report.problems.extend(problems.into_iter().map(Problem::from));
        report.unused.extend(unused.into_iter().map(|unused| Unused {
            api_version: unused.api_version,
            kind: unused.kind,
            count: unused.count,
        }));
    }
    for key in objects.keys() {
        *report.objects.entry(key.kind.to_string()).or_default() += 1;
    }
    Ok(Contents { objects: objects.into_values().collect(), report })
}

// === impl Report ===

impl Report {
    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text: String = self.problems.iter().map(|problem| format!("{}\n", problem.text)).collect();
        for unused in &self.unused {
            text.push_str(&format!("not used: {} {} ({})\n", unused.api_version, unused.kind, unused.count));
        }
        let counts: Vec<String> = self.objects.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let counts = if counts.is_empty() { "no objects".to_owned() } else { counts.join(", ") };
        text.push_str(&format!("{counts}; {} problems\n", self.problems.len()));
        text
    }
}

impl Problem {
    fn doubled(file: &Path, object: &str) -> Self {
        let message = "it is already defined by an earlier file".to_owned();
        let text = format!("{}: {object}: {message}", file.display());
        Self { file: file.to_owned(), line: 0, object: object.to_owned(), field: String::new(), message, text }
    }
}

impl From<source::Problem> for Problem {
    fn from(problem: source::Problem) -> Self {
        let text = problem.to_string();
        let source::Problem { file, line, field, object, message } = problem;
        Self { file, line, object, field, message, text }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let good = directory.path().join("good.yaml");
        fs::write(&good, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n").unwrap();
        let contents = read(std::slice::from_ref(&good)).unwrap();
        assert_eq!((contents.objects.len(), &contents.report.problems[..]), (1, &[][..]));
        assert_eq!(contents.report.table(), "not used: v1 ConfigMap (1)\n1 Namespace; 0 problems\n");

        let bad = directory.path().join("bad.yaml");
        let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  podSelector: {}\n  ingress:\n  - ports:\n    - port: 90\n      endPort: 80\n";
        fs::write(&bad, format!("{policy}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n")).unwrap();
        let report = read(&[good.clone(), bad.clone()]).unwrap().report;
        assert_eq!(report.objects, BTreeMap::from([("Namespace".to_owned(), 1), ("NetworkPolicy".to_owned(), 1)]));
        let found: Vec<_> = report
            .problems
            .iter()
            .map(|problem| (problem.object.as_str(), problem.field.as_str(), problem.line))
            .collect();
        assert_eq!(found, [("Namespace shop", "", 0), ("NetworkPolicy shop/web", "spec.ingress[0].ports[0]", 9)]);
        assert!(
            report
                .table()
                .contains(&format!("{}:9: NetworkPolicy shop/web: spec.ingress[0].ports[0]: ", bad.display()))
        );
        assert!(read(&[directory.path().join("absent")]).is_err());
    }
}
