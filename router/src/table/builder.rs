//! Tables out of snapshots. Each is made of the last one and of what changed since: a change costs what it touches.

mod domains;
mod indices;

use super::{Backend, BackendState, Certificate, Host, Insecure, Source, Table, endpoints};
use crate::{
    admission::{self, Authorities, Claim, Classes, HostKey, Rejection, Validated},
    config::{Notice, RouteConfig, RouteFacts, Settings},
    status::RouteStatus,
    table::RouteId,
};
use domains::Domains;
use imbl::OrdMap;
use indices::Indices;
use sdn_cluster::{
    Change, Snapshot,
    model::{ObjectName, Route, ServiceKey, ingress::Ingress},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Makes tables. One task owns it.
pub struct TableBuilder {
    settings: Arc<Settings>,
    service_authorities: Option<Arc<[u8]>>,
    /// What the last table was made of.
    last: Snapshot,
    classes: Classes,
    claims: HashMap<ObjectName, Entry>,
    domains: Domains,
    indices: Indices,
    statuses: OrdMap<ObjectName, Arc<RouteStatus>>,
    /// Claims to be checked again with the next snapshot, whatever changes.
    pending: BTreeSet<ObjectName>,
    table: Table,
}

/// What is known of one claim.
struct Entry {
    claim: Arc<Claim>,
    state: Arc<BackendState>,
    /// What the judge said last; `None`: nothing yet.
    verdict: Option<Result<(), Rejection>>,
    sound: Option<Sound>,
    /// What is in the table.
    backend: Option<Arc<Backend>>,
    /// It was sound with the Secret that it names.
    had_secret: bool,
}

/// A claim that was checked.
#[derive(Clone)]
struct Sound {
    validated: Validated,
    config: Arc<RouteConfig>,
    notices: Vec<Notice>,
}

/// What one snapshot makes necessary.
#[derive(Default)]
struct Work {
    /// Hosts whose claims must be judged again.
    hosts: BTreeSet<HostKey>,
    /// Claims to be checked (and built) again.
    check: BTreeSet<ObjectName>,
    /// Claims whose endpoints are to be found again.
    rebuild: BTreeSet<ObjectName>,
    /// Backends that are in the table and must go.
    gone: Vec<(HostKey, Arc<Backend>)>,
}

// === impl TableBuilder ===

impl TableBuilder {
    /// A builder that has seen nothing yet. `service_authorities`: what is in [`Settings::destination_ca`], PEM.
    pub fn new(settings: Arc<Settings>, service_authorities: Option<Arc<[u8]>>) -> Self {
        Self {
            classes: Classes::default(),
            table: Table { settings: settings.clone(), ..Table::default() },
            settings,
            service_authorities,
            last: Snapshot::default(),
            claims: HashMap::new(),
            domains: Domains::default(),
            indices: Indices::default(),
            statuses: OrdMap::new(),
            pending: BTreeSet::new(),
        }
    }

    /// The certificate of names that have none of their own, from the next table on.
    pub fn set_default_certificate(&mut self, certificate: Option<Arc<Certificate>>) {
        self.table.default_certificate = certificate;
    }

    /// Other authorities of certificates for Services, from the next table on.
    pub fn set_service_authorities(&mut self, pem: Option<Arc<[u8]>>) {
        if self.service_authorities != pem {
            self.service_authorities = pem;
            self.pending.extend(self.claims.keys().cloned());
        }
    }

    /// The table of `snapshot`.
    pub fn update(&mut self, snapshot: &Snapshot) -> Arc<Table> {
        let mut work = Work { check: std::mem::take(&mut self.pending), ..Work::default() };
        let last = std::mem::replace(&mut self.last, snapshot.clone());
        self.take_endpoints(&last, &mut work);
        self.take_secrets(&last, &mut work);
        self.take_claims(&last, &mut work);
        self.judge(&mut work);
        self.build(work);
        self.table.generation += 1;
        Arc::new(self.table.clone())
    }

    /// What became of each route: also of those that are not served. A Route by its name, a path of an Ingress by its
    /// [`RouteId::name`].
    pub fn statuses(&self) -> &OrdMap<ObjectName, Arc<RouteStatus>> {
        &self.statuses
    }
}

// === impl TableBuilder: what changed ===

impl TableBuilder {
    fn take_endpoints(&mut self, last: &Snapshot, work: &mut Work) {
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

    fn take_secrets(&mut self, last: &Snapshot, work: &mut Work) {
        let touched = self.last.secret_changes(last).map(|change| sides(change).0.clone());
        work.check
            .extend(touched.flat_map(|secret| self.indices.claims_of_secret(&secret).cloned().collect::<Vec<_>>()));
    }

    /// Routes and Ingresses that changed, or may be the router's own or another's now.
    fn take_claims(&mut self, last: &Snapshot, work: &mut Work) {
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

// === impl TableBuilder: what comes of it ===

impl TableBuilder {
    /// Judges the hosts that were touched; claims of which something else is said now are to be built again.
    fn judge(&mut self, work: &mut Work) {
        for claims in self.domains.groups(&work.hosts) {
            let verdicts = admission::judge::judge(&claims, self.settings.share_hosts);
            for (claim, verdict) in claims.iter().zip(verdicts) {
                let name = claim.name();
                let Some(entry) = self.claims.get_mut(&name) else { continue };
                let verdict = verdict.map_err(|conflict| {
                    let was_admitted = matches!(entry.verdict, Some(Ok(())));
                    let rejection = |was| conflict.rejection(claim, was, self.settings.allow_wildcards);
                    // Who was told that it was replaced is not told another thing while that is so.
                    let told = entry.verdict.as_ref().and_then(|verdict| verdict.as_ref().err());
                    if told == Some(&rejection(true)) { rejection(true) } else { rejection(was_admitted) }
                });
                if entry.verdict.as_ref() != Some(&verdict) {
                    entry.verdict = Some(verdict);
                    work.rebuild.insert(name);
                }
            }
        }
    }

    /// Checks and builds what is to be, and puts it into the table.
    fn build(&mut self, mut work: Work) {
        let mut come: Vec<(HostKey, Arc<Backend>)> = Vec::new();
        let names: BTreeSet<_> = work.rebuild.union(&work.check).cloned().collect();
        for name in names {
            let Some(mut entry) = self.claims.remove(&name) else { continue };
            let outcome = self.outcome(&mut entry, work.check.contains(&name));
            let key = entry.claim.host_key();
            work.gone.extend(entry.backend.take().map(|backend| (key.clone(), backend)));
            entry.backend = outcome.as_ref().ok().cloned();
            come.extend(entry.backend.clone().map(|backend| (key, backend)));
            self.note_status(&name, &entry, outcome);
            self.claims.insert(name, entry);
        }
        let mut touched = BTreeSet::new();
        for (key, backend) in work.gone {
            self.host_mut(&key, |host| host.paths.remove(&backend));
            touched.insert(key);
        }
        for (key, backend) in come {
            self.host_mut(&key, |host| host.paths.insert(backend));
            touched.insert(key);
        }
        for key in touched {
            self.complete_host(&key);
        }
    }

    /// The backend of a claim, or why it has none.
    fn outcome(&self, entry: &mut Entry, check: bool) -> Result<Arc<Backend>, Rejection> {
        if let Some(Err(rejection)) = &entry.verdict {
            entry.sound = None;
            return Err(rejection.clone());
        }
        if check || entry.sound.is_none() {
            entry.sound = None;
            let around = Authorities { secrets: &self.last.secrets, services: self.service_authorities.as_ref() };
            let validated = admission::validate(&entry.claim, &around, &self.settings, entry.had_secret)?;
            entry.had_secret = entry.claim.route.tls.as_ref().is_some_and(|tls| tls.external.is_some());
            entry.sound = Some(self.configure(&entry.claim, validated));
        }
        let sound = entry.sound.clone().expect("it was made above, unless it was there");
        Ok(Arc::new(self.backend(entry, sound)))
    }

    fn configure(&self, claim: &Claim, validated: Validated) -> Sound {
        let facts = RouteFacts {
            namespace: &claim.id.namespace,
            name: &claim.id.name,
            path: &claim.route.path,
            termination: claim.termination(),
            insecure: validated.insecure,
            services: claim.route.targets().filter(|target| target.weight > 0).count(),
            request_headers: validated.request_headers.clone(),
            response_headers: validated.response_headers.clone(),
        };
        let (config, notices) = RouteConfig::read(&claim.route.annotations, facts, &self.settings);
        Sound { validated, config: config.into(), notices }
    }

    fn backend(&self, entry: &Entry, sound: Sound) -> Backend {
        let claim = &entry.claim;
        let target = |target: &sdn_cluster::model::route::RouteTarget| {
            let key = ServiceKey::new(claim.id.namespace.clone(), target.service.clone());
            let slices = self.indices.slices(&key).filter_map(|slice| self.last.slices.get(slice)).collect();
            endpoints::Target { weight: target.weight, service: self.last.services.get(&key), slices, key }
        };
        let targets: Vec<_> = claim.route.targets().map(target).collect();
        let found = endpoints::find(claim, &targets, &entry.state);
        let (shares, stride) = endpoints::shares(&found.endpoints);
        let Validated { insecure, certificate, client_authority, destination, .. } = sound.validated;
        Backend {
            id: claim.id.clone(),
            host: claim.served_host(),
            path: claim.route.path.clone(),
            is_exact: claim.is_exact,
            termination: claim.termination(),
            insecure: if claim.route.tls.is_some() { insecure } else { Insecure::None },
            certificate,
            client_authority,
            destination,
            config: sound.config,
            endpoints: found.endpoints,
            shares,
            stride,
            is_idled: found.is_idled,
            state: entry.state.clone(),
        }
    }

    fn note_status(&mut self, name: &ObjectName, entry: &Entry, outcome: Result<Arc<Backend>, Rejection>) {
        let status = RouteStatus {
            id: entry.claim.id.clone(),
            host: entry.claim.host.clone(),
            is_wildcard: entry.claim.is_wildcard,
            path: entry.claim.route.path.clone(),
            termination: entry.claim.termination(),
            services: entry.claim.route.targets().map(|target| target.service.clone()).collect(),
            endpoints: outcome.as_ref().map_or(0, |backend| backend.endpoints.len()),
            notices: entry.sound.as_ref().map(|sound| sound.notices.clone()).unwrap_or_default(),
            admitted: outcome.map(|_| ()),
        };
        if self.statuses.get(name).is_none_or(|old| **old != status) {
            self.statuses.insert(name.clone(), status.into());
        }
    }

    fn host_mut(&mut self, key: &HostKey, change: impl FnOnce(&mut Host)) {
        let hosts = if key.is_wildcard { &mut self.table.wildcards } else { &mut self.table.hosts };
        let mut host = hosts.get(&key.name).cloned().unwrap_or_default();
        change(Arc::make_mut(&mut host));
        hosts.insert(key.name.clone(), host);
    }

    /// What a host has as a whole, of its backends: the oldest decides.
    fn complete_host(&mut self, key: &HostKey) {
        let backends = self.domains.claims_of(key).filter_map(|claim| self.claims.get(&claim.name())?.backend.clone());
        let backends: Vec<_> = backends.collect();
        if backends.is_empty() {
            let hosts = if key.is_wildcard { &mut self.table.wildcards } else { &mut self.table.hosts };
            hosts.remove(&key.name);
            return;
        }
        let is_passthrough = |backend: &&Arc<Backend>| backend.termination == super::Termination::Passthrough;
        self.host_mut(key, |host| {
            host.passthrough = backends.iter().find(is_passthrough).cloned();
            host.is_terminated = backends.iter().any(|backend| backend.serves_tls());
            host.certificate = backends.iter().find_map(|backend| backend.certificate.clone());
            host.client_authority = backends.iter().find_map(|backend| backend.client_authority.clone());
        });
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

#[cfg(test)]
mod tests;
