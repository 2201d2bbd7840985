//! Tables out of snapshots. Each is made of the last one and of what changed since: a change costs what it touches.

mod changes;
mod domains;
mod indices;

use super::{Backend, BackendState, Certificate, Host, Insecure, Table, endpoints};
use crate::{
    admission::{self, Authorities, Claim, Classes, HostKey, Rejection, Validated},
    config::{Notice, RouteConfig, RouteFacts, Settings},
    status::RouteStatus,
};
use domains::Domains;
use imbl::OrdMap;
use indices::Indices;
use sdn_cluster::{
    Snapshot,
    model::{ObjectName, ServiceKey},
};
use std::{
    collections::{BTreeSet, HashMap},
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
        // Claims that went, or are others now, had their backends put aside.
        let mut touched: BTreeSet<HostKey> = work.gone.iter().map(|(key, _)| key.clone()).collect();
        let names: BTreeSet<_> = work.rebuild.union(&work.check).cloned().collect();
        for name in names {
            let Some(mut entry) = self.claims.remove(&name) else { continue };
            let outcome = self.outcome(&mut entry, work.check.contains(&name));
            let key = entry.claim.host_key();
            let old = std::mem::replace(&mut entry.backend, outcome.as_ref().ok().cloned());
            if !looks_the_same(old.as_deref(), entry.backend.as_deref()) {
                touched.insert(key.clone());
            }
            work.gone.extend(old.map(|backend| (key.clone(), backend)));
            come.extend(entry.backend.clone().map(|backend| (key, backend)));
            self.note_status(&name, &entry, outcome);
            self.claims.insert(name, entry);
        }
        for (key, backend) in work.gone {
            self.host_mut(&key, |host| host.paths.remove(&backend));
        }
        for (key, backend) in come {
            self.host_mut(&key, |host| host.paths.insert(backend));
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

/// Whether what a host has as a whole is the same with the one backend as with the other: then the host's other claims
/// need not be looked at.
fn looks_the_same(old: Option<&Backend>, new: Option<&Backend>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old.is_none() && new.is_none() };
    let certificates = [old, new].map(|backend| backend.certificate.as_ref().map(|certificate| certificate.id));
    // One that was read again is another one: it is told by where it is.
    let authorities = [old, new].map(|backend| backend.client_authority.as_ref().map(Arc::as_ptr));
    // A host knows its passthrough backend itself.
    new.termination != super::Termination::Passthrough
        && old.termination == new.termination
        && certificates[0] == certificates[1]
        && authorities[0] == authorities[1]
}

#[cfg(test)]
mod tests;
