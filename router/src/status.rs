//! What is said of routes in their status: admitted or not, and why.

use crate::{
    admission::Rejection,
    config::{Notice, Settings},
    table::{RouteId, Termination},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What became of one route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteStatus {
    /// The route.
    pub id: RouteId,
    /// The host it is for; empty: it has none.
    pub host: Arc<str>,
    /// It is for the hosts of the host's domain.
    pub is_wildcard: bool,
    /// Its path.
    pub path: Arc<str>,
    /// Where its TLS ends.
    pub termination: Termination,
    /// Its Services, the primary one first.
    pub services: Vec<Arc<str>>,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// Whether it is served, and why not.
    pub admitted: Result<(), Rejection>,
    /// Annotations that are not used as they stand.
    pub notices: Vec<Notice>,
}

/// One entry of status.ingress of a Route: what one router says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteIngress {
    /// The host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The router's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub router_name: String,
    /// What it says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// None or Subdomain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wildcard_policy: String,
    /// The name that the host can be an alias of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub router_canonical_hostname: String,
}

/// One condition of a [`RouteIngress`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Admitted, or UnservableInFutureVersions.
    pub r#type: String,
    /// True or False.
    pub status: String,
    /// Why, for machines; empty when True.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
}

/// The condition that says whether a route is served.
pub const ADMITTED: &str = "Admitted";
/// A condition that older routers set: this one has nothing to say there, and takes it away.
pub const UNSERVABLE: &str = "UnservableInFutureVersions";

// === impl RouteStatus ===

impl RouteStatus {
    /// Writes what this router says into a Route's status.ingress, where the entries of other routers stay as they are.
    /// `now` (like `2026-01-31T08:15:00Z`) becomes the time of what has changed. Whether anything has.
    pub fn record(&self, entries: &mut Vec<RouteIngress>, settings: &Settings, now: &str) -> bool {
        let mut wanted = self.ingress(settings);
        let Some(entry) = entries.iter_mut().find(|entry| entry.router_name == wanted.router_name) else {
            wanted.conditions[0].last_transition_time = Some(now.to_owned());
            entries.push(wanted);
            return true;
        };
        let known = entry.conditions.iter().find(|condition| condition.r#type == ADMITTED);
        let condition = &mut wanted.conditions[0];
        condition.last_transition_time = known.and_then(|known| known.last_transition_time.clone());
        if known != Some(condition) {
            condition.last_transition_time = Some(now.to_owned());
        }
        let others = entry.conditions.iter().filter(|other| other.r#type != ADMITTED && other.r#type != UNSERVABLE);
        let others: Vec<_> = others.cloned().collect();
        wanted.conditions.extend(others);
        // The order of conditions says nothing.
        let sorted = |entry: &RouteIngress| {
            let mut entry = entry.clone();
            entry.conditions.sort_by(|one, other| one.r#type.cmp(&other.r#type));
            entry
        };
        let changed = sorted(entry) != sorted(&wanted);
        if changed {
            *entry = wanted;
        }
        changed
    }

    /// What this router says, with one condition, which has no time.
    pub fn ingress(&self, settings: &Settings) -> RouteIngress {
        let condition = match &self.admitted {
            Ok(()) => Condition { r#type: ADMITTED.to_owned(), status: "True".to_owned(), ..Condition::default() },
            Err(rejection) => Condition {
                r#type: ADMITTED.to_owned(),
                status: "False".to_owned(),
                reason: rejection.reason.to_string(),
                message: rejection.message.clone(),
                last_transition_time: None,
            },
        };
        RouteIngress {
            host: self.host.to_string(),
            router_name: settings.name.to_string(),
            conditions: vec![condition],
            wildcard_policy: if self.is_wildcard { "Subdomain" } else { "None" }.to_owned(),
            router_canonical_hostname: settings.canonical_hostname.as_deref().unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
