//! A snapshot on disk, for an agent that starts while its source is away: a Kubernetes list of its nodes, namespaces,
//! pods, policies, Services and EndpointSlices. Nothing else is in a snapshot's file; Secrets never are.

use super::Snapshot;
use crate::{
    error::Error,
    model::{self, Kind, Object},
    replace::{Durability, replace_file},
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

#[derive(Deserialize)]
struct Saved<'a> {
    metadata: SavedMeta,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedMeta {
    resource_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    api_version: String,
    kind: String,
}

impl Snapshot {
    /// Writes it to `path` by renaming, readable for its owner only.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let nodes = self.nodes.values().map(|node| node.to_json());
        let namespaces = self.namespaces.values().map(|namespace| namespace.to_json());
        let pods = self.pods.values().map(|pod| pod.to_json());
        let policies = self.policies.values().map(|policy| policy.to_json());
        let services = self.services.values().map(|service| service.to_json());
        let slices = self.slices.values().map(|slice| slice.to_json());
        let items = nodes.chain(namespaces).chain(pods).chain(policies).chain(services).chain(slices);
        let list = json!({
            "apiVersion": "v1",
            "kind": "List",
            "metadata": {"resourceVersion": self.generation.to_string()},
            "items": items.collect::<Vec<_>>(),
        });
        replace_file(path, list.to_string().as_bytes(), 0o600, Durability::Durable)
    }

    /// Reads what [`Snapshot::save`] wrote. Never synced: the cluster has moved on since. `None` when there is no such
    /// file.
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        let fault = |reason: String| Error::SavedSnapshot { path: path.to_owned(), reason };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(fault("it is not text".to_owned())),
            Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
        };
        let saved: Saved = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
        let generation = saved
            .metadata
            .resource_version
            .parse()
            .map_err(|_| fault("its resourceVersion is no number".to_owned()))?;
        let mut snapshot = Self { generation, ..Self::default() };
        for item in saved.items {
            match read_item(item.get()) {
                Ok(object) => _ = snapshot.put(object),
                // Written by another version of ours: the source will tell about that object again.
                Err(reason) => tracing::warn!(path = %path.display(), reason, "a saved object is left out"),
            }
        }
        Ok(Some(snapshot))
    }
}

/// Saves every synced snapshot to `path`, at most one in `pause`, until the store ends. It keeps the store's task alive
/// as any receiver does: whoever started it ends it.
pub async fn keep_saved(mut snapshots: watch::Receiver<Snapshot>, path: PathBuf, pause: Duration) {
    let mut saved = None;
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        if snapshot.synced && saved != Some(snapshot.generation) {
            saved = Some(snapshot.generation);
            let target = path.clone();
            let result = tokio::task::spawn_blocking(move || snapshot.save(&target)).await;
            if let Ok(Err(error)) = result {
                tracing::warn!(%error, "the last known state of the cluster is not saved");
            }
            sleep(pause).await;
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

fn read_item(json: &str) -> Result<Object, String> {
    let header: Header = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let kind = Kind::of(&header.api_version, &header.kind).filter(|kind| kind.is_derived());
    let kind = kind.ok_or_else(|| format!("a {} is not part of a snapshot", header.kind))?;
    Object::parse(kind, json, "")
        .map_err(|model::FieldError { field, message, .. }| format!("{kind}: {field}: {message}"))
}

#[cfg(test)]
mod tests;
