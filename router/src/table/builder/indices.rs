//! Who depends on what.

use crate::{admission::Claim, config::annotation};
use sdn_cluster::model::{ObjectName, Route, ServiceKey, SliceKey};
use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

/// Which claims depend on which objects.
#[derive(Default)]
pub(super) struct Indices {
    by_service: HashMap<ServiceKey, BTreeSet<ObjectName>>,
    by_secret: HashMap<ObjectName, BTreeSet<ObjectName>>,
    slices: HashMap<ServiceKey, BTreeSet<SliceKey>>,
    /// The claims of each Ingress.
    of_ingress: HashMap<ObjectName, Vec<ObjectName>>,
    /// The Routes that a controller has made of each Ingress.
    controlled: HashMap<ObjectName, BTreeSet<ObjectName>>,
}

// === impl Indices ===

impl Indices {
    pub fn learn(&mut self, name: &ObjectName, claim: &Claim) {
        for service in services(claim) {
            self.by_service.entry(service).or_default().insert(name.clone());
        }
        for secret in secrets(claim) {
            self.by_secret.entry(secret).or_default().insert(name.clone());
        }
    }

    pub fn forget(&mut self, name: &ObjectName, claim: &Claim) {
        for service in services(claim) {
            take(&mut self.by_service, &service, name);
        }
        for secret in secrets(claim) {
            take(&mut self.by_secret, &secret, name);
        }
    }

    pub fn claims_of_service(&self, service: &ServiceKey) -> impl Iterator<Item = &ObjectName> {
        self.by_service.get(service).into_iter().flatten()
    }

    pub fn claims_of_secret(&self, secret: &ObjectName) -> impl Iterator<Item = &ObjectName> {
        self.by_secret.get(secret).into_iter().flatten()
    }

    pub fn slices(&self, service: &ServiceKey) -> impl Iterator<Item = &SliceKey> {
        self.slices.get(service).into_iter().flatten()
    }

    pub fn note_slice(&mut self, service: &ServiceKey, slice: &SliceKey, is_there: bool) {
        if is_there {
            self.slices.entry(service.clone()).or_default().insert(slice.clone());
        } else {
            take(&mut self.slices, service, slice);
        }
    }

    /// The claims that the Ingress had.
    pub fn replace_ingress(&mut self, ingress: &ObjectName, claims: Vec<ObjectName>) -> Vec<ObjectName> {
        let old = match claims.is_empty() {
            true => self.of_ingress.remove(ingress),
            false => self.of_ingress.insert(ingress.clone(), claims),
        };
        old.unwrap_or_default()
    }

    pub fn note_controller(&mut self, name: &ObjectName, old: Option<&Arc<Route>>, new: Option<&Arc<Route>>) {
        let ingress = |route: &Arc<Route>| {
            let name = route.ingress.clone()?;
            Some(ObjectName { namespace: route.namespace.clone(), name })
        };
        if let Some(ingress) = old.and_then(ingress) {
            take(&mut self.controlled, &ingress, name);
        }
        if let Some(ingress) = new.and_then(ingress) {
            self.controlled.entry(ingress).or_default().insert(name.clone());
        }
    }

    /// Whether a controller has made Routes of the Ingress.
    pub fn has_routes(&self, ingress: &ObjectName) -> bool {
        self.controlled.contains_key(ingress)
    }
}

fn take<K: Hash + Eq, V: Ord>(index: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}

fn services(claim: &Claim) -> impl Iterator<Item = ServiceKey> {
    claim.route.targets().map(|target| ServiceKey::new(claim.id.namespace.clone(), target.service.clone()))
}

fn secrets(claim: &Claim) -> impl Iterator<Item = ObjectName> {
    let external = claim.route.tls.as_ref().and_then(|tls| tls.external.clone());
    let clients = claim.route.annotations.get(annotation::CLIENT_CA_SECRET).map(|name| Arc::from(name.as_str()));
    let names = [external, clients, claim.destination_secret.clone()];
    names.into_iter().flatten().map(|name| ObjectName { namespace: claim.id.namespace.clone(), name })
}
