//! What changed from one snapshot to the next, and which claims, endpoints and hosts that touches.

use super::{Entry, TableBuilder, Work};
use crate::{
    admission::{self, Claim, Classes},
    table::{RouteId, Source},
};
use imbl::OrdMap;
use sdn_cluster::{
    Change, Snapshot,
    model::{ObjectName, Route, ServiceKey, ingress::Ingress},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl TableBuilder {
    pub(super) fn take_endpoints(&mut self, last: &Snapshot, work: &mut Work) {
        let mut touched: BTreeSet<ServiceKey> = BTreeSet::new();
        for change in self.last.slice_changes(last) {
            let (key, old, new) = sides(change);
            for (slice, is_there) in old.map(|old| (old, false)).into_iter().chain(new.map(|new| (new, true))) {
                if let Some(service) = slice.service_key() {
                    self.indices.note_slice(&service, key, is_there);
                    touched.insert(service);
                }
            }
        }
        touched.extend(self.last.service_changes(last).map(|change| sides(change).0.clone()));
        work.rebuild.extend(touched.iter().flat_map(|service| self.indices.claims_of_service(service)).cloned());
    }

    pub(super) fn take_secrets(&mut self, last: &Snapshot, work: &mut Work) {
        let touched = self.last.secret_changes(last).map(|change| sides(change).0.clone());
        work.check
            .extend(touched.flat_map(|secret| self.indices.claims_of_secret(&secret).cloned().collect::<Vec<_>>()));
    }

    /// Routes and Ingresses that changed, or may be the router's own or another's now.
    pub(super) fn take_claims(&mut self, last: &Snapshot, work: &mut Work) {
        let now = self.last.clone();
        let mut routes: BTreeSet<ObjectName> = now.route_changes(last).map(|change| sides(change).0.clone()).collect();
        let mut ingresses: BTreeSet<ObjectName> =
            now.ingress_changes(last).map(|change| sides(change).0.clone()).collect();
        if self.settings.selector.namespace_labels.is_some() {
            for change in now.namespace_changes(last) {
                let namespace = sides(change).0;
                routes.extend(in_namespace(&now.routes, namespace));
                ingresses.extend(in_namespace(&now.ingresses, namespace));
            }
        }
        if now.ingress_classes != last.ingress_classes || self.table.generation == 0 {
            self.classes = Classes::new(now.ingress_classes.values(), &self.settings);
            ingresses.extend(now.ingresses.keys().cloned());
        }
        for name in &routes {
            let (old, new) = (last.routes.get(name), now.routes.get(name));
            let touched = [old, new].into_iter().flatten().filter_map(|route| route.ingress.clone());
            ingresses.extend(touched.map(|ingress| ObjectName { namespace: name.namespace.clone(), name: ingress }));
            self.indices.note_controller(name, old, new);
        }
        for name in routes {
            let claim = now.routes.get(&name).and_then(|route| self.claim_of_route(route, &now));
            self.replace(name, claim, work);
        }
        for name in ingresses {
            let claims =
                now.ingresses.get(&name).map(|ingress| self.claims_of_ingress(ingress, &now)).unwrap_or_default();
            let old = self.indices.replace_ingress(&name, claims.iter().map(Claim::name).collect());
            let mut claims: BTreeMap<_, _> = claims.into_iter().map(|claim| (claim.name(), claim)).collect();
            for name in old.into_iter().chain(claims.keys().cloned()).collect::<BTreeSet<_>>() {
                let claim = claims.remove(&name);
                self.replace(name, claim, work);
            }
        }
    }

    /// `None` for a Route that is not this router's.
    fn claim_of_route(&self, route: &Arc<Route>, now: &Snapshot) -> Option<Claim> {
        let labels = now.namespaces.get(&route.namespace).map(|namespace| &namespace.labels);
        if !self.settings.selector.picks(&route.namespace, &route.name, &route.labels, labels) {
            return None;
        }
        let id = RouteId {
            namespace: route.namespace.clone(),
            name: route.name.clone(),
            source: Source::Route,
            uid: route.uid.clone(),
        };
        let host = admission::host_of(&route.namespace, &route.name, &route.host, &route.subdomain, &self.settings);
        Some(Claim::of_route(id, route.clone(), host))
    }

    /// None for an Ingress that is not this router's, or of which a controller has made Routes.
    fn claims_of_ingress(&self, ingress: &Arc<Ingress>, now: &Snapshot) -> Vec<Claim> {
        let labels = now.namespaces.get(&ingress.namespace).map(|namespace| &namespace.labels);
        let is_own = self.settings.selector.picks(&ingress.namespace, &ingress.name, &ingress.labels, labels);
        if !is_own || !self.classes.serve(ingress) || self.indices.has_routes(&ingress.key()) {
            return Vec::new();
        }
        admission::claims_of(ingress, &self.settings)
    }

    fn replace(&mut self, name: ObjectName, claim: Option<Claim>, work: &mut Work) {
        if let (Some(old), Some(claim)) = (self.claims.get(&name), &claim)
            && *old.claim == *claim
        {
            return;
        }
        let old = self.claims.remove(&name);
        let mut state = None;
        if let Some(old) = old {
            let key = old.claim.host_key();
            self.indices.forget(&name, &old.claim);
            if self.domains.remove(&old.claim) {
                work.hosts.insert(key.clone());
            }
            work.gone.extend(old.backend.map(|backend| (key, backend)));
            let is_same = claim.as_ref().is_some_and(|claim| claim.id == old.claim.id);
            state = Some(old.state).filter(|_| is_same);
        }
        let Some(claim) = claim else {
            self.statuses.remove(&name);
            return;
        };
        let claim = Arc::new(claim);
        self.indices.learn(&name, &claim);
        let verdict = match admission::check_host(&claim, &self.settings) {
            Ok(()) => {
                self.domains.insert(claim.clone());
                work.hosts.insert(claim.host_key());
                None
            }
            Err(rejection) => Some(Err(rejection)),
        };
        work.check.insert(name.clone());
        let state = state.unwrap_or_default();
        let entry = Entry { claim, state, verdict, sound: None, backend: None, had_secret: false };
        self.claims.insert(name, entry);
    }
}

/// What a change is of, as it was and as it is.
fn sides<'a, K, V>(change: Change<'a, K, V>) -> (&'a K, Option<&'a V>, Option<&'a V>) {
    match change {
        Change::Added(key, new) => (key, None, Some(new)),
        Change::Changed { key, old, new } => (key, Some(old), Some(new)),
        Change::Removed(key, old) => (key, Some(old), None),
    }
}

/// The names of a namespace's objects.
fn in_namespace<V>(objects: &OrdMap<ObjectName, V>, namespace: &Arc<str>) -> impl Iterator<Item = ObjectName> {
    let first = ObjectName { namespace: namespace.clone(), name: "".into() };
    let own = objects.range(first..).take_while(move |(name, _)| name.namespace == *namespace);
    own.map(|(name, _)| name.clone())
}
