//! Namespaces.

use super::meta::Labels;
use std::sync::Arc;

/// A namespace: what policies select by label, and what names are unique in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.uid; empty when the object carries none.
    pub uid: Arc<str>,
    /// metadata.labels.
    pub labels: Labels,
}
