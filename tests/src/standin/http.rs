//! HTTP/1.1 and HTTP/2 with prior knowledge on one TCP port.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use super::{Answer, Ends, Identity, Request};

/// Answers on `listener` until the task is aborted.
pub fn serve(listener: std::net::TcpListener, runtime: &Handle, who: Arc<Identity>) -> Result<JoinHandle<()>> {
    listener.set_nonblocking(true).context("make a listener non-blocking")?;
    let _inside = runtime.enter();
    let listener = TcpListener::from_std(listener).context("hand a listener to the runtime")?;
    Ok(runtime.spawn(accept(listener, who)))
}

async fn accept(listener: TcpListener, who: Arc<Identity>) {
    // Dropped with this task: open connections end with their port.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(converse(stream, who.clone()))),
            // Out of descriptors, or a connection that was reset before it was accepted.
            Err(error) => {
                tracing::warn!(pod = who.pod, "accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, who: Arc<Identity>) {
    let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let ends = Ends { client, server };
    let answer = service_fn(|request| {
        let response = respond(&who, ends, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    // A client that goes away in the middle is not the stand-in's concern.
    auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await.ok();
}

fn respond(who: &Identity, ends: Ends, request: &hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
    let seen = Request {
        version: format!("{:?}", request.version()),
        method: request.method().to_string(),
        path: request.uri().path_and_query().map_or("/", |path| path.as_str()).to_string(),
        headers: joined(request.headers()),
    };
    let mut response = hyper::Response::new(Full::from(Answer::new(who, ends, Some(seen)).to_json()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn joined(headers: &HeaderMap) -> std::collections::BTreeMap<String, String> {
    let values = |name| headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    headers.keys().map(|name| (name.to_string(), values(name).collect::<Vec<_>>().join(", "))).collect()
}
