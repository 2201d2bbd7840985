//! Cluster DNS as its operator asks about it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use sdn_cluster::Snapshot;
use sdn_cluster::model::PodKey;
use serde::Deserialize;

use super::api::{DnsAnswer, DnsStats, UpstreamRow};
use crate::app::resolver::Resolver;
use crate::config::Config;

/// What is asked.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// A pod, `namespace/name`.
    from: Option<String>,
}

/// Names with fewer dots are looked for along the search path first (resolv.conf(5), as pods have it).
const NDOTS: usize = 5;

pub(super) fn stats(resolver: &Resolver, config: &Config) -> DnsStats {
    let (services, endpoints) = resolver.sizes();
    let row = |(address, problem): (String, Option<&str>)| UpstreamRow { address, problem: problem.map(str::to_owned) };
    DnsStats {
        ready: resolver.is_ready(),
        domain: config.dns.domain.clone(),
        addresses: config.dns.addresses.clone(),
        services,
        endpoints,
        upstreams: resolver.upstreams().into_iter().map(row).collect(),
        counters: counters(&resolver.metrics()),
    }
}

/// The counters of an OpenMetrics text that are not zero.
fn counters(text: &str) -> BTreeMap<String, u64> {
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        let counts = name.split('{').next()?.ends_with("_total");
        let value: u64 = value.parse().ok()?;
        (counts && value != 0).then(|| (name.to_owned(), value))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

/// Asks as a pod would: along its search path, until a name has records.
pub(super) async fn query(
    resolver: &Resolver,
    config: &Config,
    snapshot: &Snapshot,
    asked: &Asked,
) -> Result<DnsAnswer, String> {
    let kind: RecordType =
        asked.kind.to_ascii_uppercase().parse().map_err(|_| format!("{:?} is no type of records", asked.kind))?;
    let (client, namespace) = client(snapshot, asked.from.as_deref())?;
    let started = Instant::now();
    let mut answer = DnsAnswer { client: asked.from.as_ref().map(|_| client), ..DnsAnswer::default() };
    for candidate in candidates(&asked.name, namespace, &config.dns.domain) {
        let name = Name::from_ascii(&candidate).map_err(|error| format!("{candidate:?} is no name: {error}"))?;
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name, kind));
        let bytes = message.to_vec().map_err(|error| format!("write the query for {candidate}: {error}"))?;
        let reply = resolver.ask(&bytes, client).await.ok_or("the resolver keeps silent")?;
        let reply = Message::from_vec(&reply).map_err(|error| format!("read the answer about {candidate}: {error}"))?;
        answer.asked.push(candidate);
        answer.code = reply.metadata.response_code.to_string();
        answer.authoritative = reply.metadata.authoritative;
        answer.records = reply.answers.iter().map(ToString::to_string).collect();
        let goes_on = [ResponseCode::NXDomain, ResponseCode::NoError].contains(&reply.metadata.response_code);
        if !answer.records.is_empty() || !goes_on {
            break;
        }
    }
    answer.took_micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(answer)
}

/// The address that is asked from, and the namespace whose search path counts.
fn client<'a>(snapshot: &'a Snapshot, from: Option<&'a str>) -> Result<(IpAddr, Option<&'a str>), String> {
    let Some(from) = from else { return Ok((Ipv4Addr::LOCALHOST.into(), None)) };
    let (namespace, name) = from.split_once('/').ok_or_else(|| format!("{from:?} is no pod: NAMESPACE/NAME"))?;
    let key = PodKey { namespace: namespace.into(), name: name.into() };
    let pod = snapshot.pods.get(&key).ok_or_else(|| format!("find pod {from}: the cluster has no such pod"))?;
    let address = pod.addresses.first().ok_or_else(|| format!("pod {from} has no address yet"))?;
    Ok((*address, Some(namespace)))
}

/// The names that a resolver library in a pod would ask for, in order; on the node there is no search path.
fn candidates(name: &str, namespace: Option<&str>, domain: &str) -> Vec<String> {
    let absolute = || format!("{}.", name.trim_end_matches('.'));
    let Some(namespace) = namespace.filter(|_| !name.ends_with('.')) else { return vec![absolute()] };
    let search = [format!("{namespace}.svc.{domain}."), format!("svc.{domain}."), format!("{domain}.")];
    let searched = search.iter().map(|suffix| format!("{name}.{suffix}"));
    match name.matches('.').count() < NDOTS {
        true => searched.chain([absolute()]).collect(),
        false => [absolute()].into_iter().chain(searched).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_for_as_a_pod_asks() {
        let of = |name, namespace| candidates(name, namespace, "cluster.local");
        assert_eq!(of("web", None), ["web."]);
        assert_eq!(of("web.", Some("shop")), ["web."]);
        let searched = ["web.shop.svc.cluster.local.", "web.svc.cluster.local.", "web.cluster.local.", "web."];
        assert_eq!(of("web", Some("shop")), searched);
        assert_eq!(of("a.b.c.d.e.f", Some("shop"))[0], "a.b.c.d.e.f.", "enough dots to be asked for as it is first");
    }

    #[test]
    fn counters_are_those_that_count() {
        let text = "# TYPE a counter\na_total{zone=\".\"} 3\nb_total 0\nc_bucket{le=\"1\"} 7\nd_total 1\n# EOF\n";
        let expected = [("a_total{zone=\".\"}".to_owned(), 3), ("d_total".to_owned(), 1)].into_iter().collect();
        assert_eq!(counters(text), expected);
    }
}
