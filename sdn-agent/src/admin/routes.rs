//! What is answered at which path.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use futures_util::stream;
use sdn_cluster::model::PodKey;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::api::{ApiError, DropEvent, EventLine};
use super::dns::{self, Asked};
use super::{Agent, policies};
use crate::observe::{Dataplane, metrics};

/// Content type of the Prometheus text that [`metrics::text`] writes.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The admin socket.
pub fn admin<D: Dataplane>(agent: Arc<Agent<D>>) -> Router {
    Router::new()
        .route("/v1/status", get(status::<D>))
        .route("/v1/pods", get(pods::<D>))
        .route("/v1/nodes", get(nodes::<D>))
        .route("/v1/policies", get(policies::<D>))
        .route("/v1/policies/explain", get(explain::<D>))
        .route("/v1/dns", get(dns_stats::<D>))
        .route("/v1/dns/query", get(dns_query::<D>))
        .route("/v1/dns/log", put(dns_log::<D>))
        .route("/v1/drops", get(drops::<D>))
        .route("/v1/drops/events", get(events::<D>))
        .fallback(async || {
            refuse(StatusCode::NOT_FOUND, "there is nothing at this path (is sdnctl newer than the agent?)")
        })
        .with_state(agent)
}

/// The TCP address.
pub fn health<D: Dataplane>(agent: Arc<Agent<D>>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready::<D>))
        .route("/metrics", get(metrics_text::<D>))
        .with_state(agent)
}

type Shared<D> = State<Arc<Agent<D>>>;

#[derive(Deserialize)]
struct PodQuery {
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct ExplainQuery {
    pod: String,
}

async fn status<D: Dataplane>(State(agent): Shared<D>) -> Response {
    Json(agent.status().await).into_response()
}

async fn pods<D: Dataplane>(State(agent): Shared<D>, Query(query): Query<PodQuery>) -> Response {
    Json(agent.pods(query.namespace.as_deref())).into_response()
}

async fn nodes<D: Dataplane>(State(agent): Shared<D>) -> Response {
    Json(agent.nodes()).into_response()
}

async fn policies<D: Dataplane>(State(agent): Shared<D>) -> Response {
    let conditions = agent.dataplane.get().map(Dataplane::applied).unwrap_or_default().conditions;
    Json(policies::rows(&agent.snapshot(), &agent.config.node_name, &conditions)).into_response()
}

async fn explain<D: Dataplane>(State(agent): Shared<D>, Query(query): Query<ExplainQuery>) -> Response {
    let conditions = agent.dataplane.get().map(Dataplane::applied).unwrap_or_default().conditions;
    let Some((namespace, name)) = query.pod.split_once('/') else {
        return refuse(StatusCode::BAD_REQUEST, "explain a pod: it is called NAMESPACE/NAME");
    };
    match policies::explain(&agent.snapshot(), &PodKey::new(namespace, name), &conditions) {
        Some(explanation) => Json(explanation).into_response(),
        None => refuse(StatusCode::NOT_FOUND, &format!("explain pod {}: the agent does not know it", query.pod)),
    }
}

async fn drops<D: Dataplane>(State(agent): Shared<D>) -> Response {
    let Some(dataplane) = agent.dataplane.get() else { return not_yet() };
    match dataplane.drops().await {
        Ok(rows) => Json(rows).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn dns_stats<D: Dataplane>(State(agent): Shared<D>) -> Response {
    match agent.resolver.get() {
        Some(resolver) => Json(dns::stats(resolver, &agent.config)).into_response(),
        None => no_resolver(),
    }
}

async fn dns_query<D: Dataplane>(State(agent): Shared<D>, Query(asked): Query<Asked>) -> Response {
    let Some(resolver) = agent.resolver.get() else { return no_resolver() };
    match dns::query(resolver, &agent.config, &agent.snapshot(), &asked).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, &error),
    }
}

#[derive(Deserialize)]
struct LogQuery {
    wanted: bool,
}

async fn dns_log<D: Dataplane>(State(agent): Shared<D>, Query(query): Query<LogQuery>) -> Response {
    let Some(resolver) = agent.resolver.get() else { return no_resolver() };
    resolver.log_queries(query.wanted);
    Json(query.wanted).into_response()
}

fn no_resolver() -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        "cluster DNS is not answered on this node (setting dns), or not yet; see `sdnctl status`",
    )
}

/// One JSON object a line, for as long as the client listens.
async fn events<D: Dataplane>(State(agent): Shared<D>) -> Response {
    let Some(dataplane) = agent.dataplane.get() else { return not_yet() };
    let lines = stream::unfold(dataplane.events(), async |mut events| {
        let line = next_event(&mut events).await?;
        Some((Ok::<_, Infallible>(line), events))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

async fn next_event(events: &mut Receiver<DropEvent>) -> Option<Bytes> {
    let line = match events.recv().await {
        Ok(event) => line(&EventLine::Event(event)),
        Err(RecvError::Lagged(lost)) => line(&EventLine::Lost { lost }),
        Err(RecvError::Closed) => return None,
    };
    Some(line)
}

fn line(value: &impl Serialize) -> Bytes {
    // Plain data always has a JSON form.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

async fn ready<D: Dataplane>(State(agent): Shared<D>) -> Response {
    let waiting = agent.readiness.waiting();
    if waiting.is_empty() {
        return "ready\n".into_response();
    }
    let lines: String = waiting.iter().map(|(stage, why)| format!("{stage}: {why}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn metrics_text<D: Dataplane>(State(agent): Shared<D>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics::text(&agent).await).into_response()
}

fn not_yet() -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the dataplane is not loaded yet; see `sdnctl status`")
}

fn refuse(code: StatusCode, error: &str) -> Response {
    (code, Json(ApiError { error: error.to_owned() })).into_response()
}
