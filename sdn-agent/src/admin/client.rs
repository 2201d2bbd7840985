//! The other end of the admin socket, for sdnctl and for tests.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::api::ApiError;

/// An agent that does not answer by then hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the agent behind one socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// The agent did not answer, or not as asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("connect to the agent at {}: {cause} ({})", socket.display(), connect_hint(cause))]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Somebody is there and says nothing.
    #[error("ask the agent at {} for {path}: no answer in {} s (its role may be restarting; see its log)", socket.display(), PATIENCE.as_secs())]
    Silent {
        /// Where.
        socket: PathBuf,
        /// What was asked.
        path: String,
    },
    /// The agent refused.
    #[error("ask the agent for {path}: {error}")]
    Refused {
        /// What was asked.
        path: String,
        /// Its reason.
        error: String,
    },
    /// The answer could not be understood.
    #[error("read the agent's answer about {path}: {cause}")]
    Answer {
        /// What was asked.
        path: String,
        /// What is wrong.
        cause: String,
    },
}

fn connect_hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "does sdn-agent run on this node? its run directory is set by --run-dir, the socket by --socket"
        }
        io::ErrorKind::PermissionDenied => "only root and the agent's own user may ask",
        _ => "see the agent's log",
    }
}

/// Lines of an endless answer.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    path: String,
}

// === impl Client ===

impl Client {
    /// A client of the agent at this socket. Nothing happens yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The answer at a path.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path).await
    }

    /// Has something changed, and the answer to it.
    pub async fn put<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::PUT, path).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        let silent = || ClientError::Silent { socket: self.socket.clone(), path: path.to_owned() };
        let response = timeout(PATIENCE, self.request(method, path)).await.map_err(|_| silent())??;
        let (ok, status) = (response.status().is_success(), response.status());
        let body = timeout(PATIENCE, response.into_body().collect()).await.map_err(|_| silent())?;
        let body = body.map_err(|error| answer(path, &error))?.to_bytes();
        if ok {
            return serde_json::from_slice(&body).map_err(|error| answer(path, &error));
        }
        let error = serde_json::from_slice(&body).map_or_else(|_| status.to_string(), |ApiError { error }| error);
        Err(ClientError::Refused { path: path.to_owned(), error })
    }

    /// The lines at a path, as they come.
    pub async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        let silent = || ClientError::Silent { socket: self.socket.clone(), path: path.to_owned() };
        let response = timeout(PATIENCE, self.request(Method::GET, path)).await.map_err(|_| silent())??;
        if !response.status().is_success() {
            let body = response.into_body().collect().await.map_err(|error| answer(path, &error))?.to_bytes();
            let error = serde_json::from_slice(&body).map_or_else(|_| "refused".to_owned(), |ApiError { error }| error);
            return Err(ClientError::Refused { path: path.to_owned(), error });
        }
        Ok(Lines { body: response.into_body(), rest: Vec::new(), path: path.to_owned() })
    }

    async fn request(&self, method: Method, path: &str) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |cause| ClientError::Unreachable { socket: self.socket.clone(), cause };
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| answer(path, &error))?;
        // It ends with the answer's last byte, or with this process.
        tokio::spawn(connection);
        let request =
            Request::builder().method(method).uri(path).header(header::HOST, "agent").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| answer(path, &error))?;
        sender.send_request(request).await.map_err(|error| answer(path, &error))
    }
}

fn answer(path: &str, error: &impl std::fmt::Display) -> ClientError {
    ClientError::Answer { path: path.to_owned(), cause: error.to_string() }
}

// === impl Lines ===

impl Lines {
    /// The next line; `None` when the agent has ended.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|error| answer(&self.path, &error));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.rest.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(answer(&self.path, &error)),
                None => return Ok(None),
            }
        }
    }
}
