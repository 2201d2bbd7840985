//! The plugin's connection to the agent: blocking, since the plugin has nothing else to do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use thiserror::Error;

use crate::protocol::{Failure, MAX_MESSAGE, ProtocolError, Request, Response, code, decode, encode};

/// A connection for one operation.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

/// The agent did not do what was asked.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "connecting to the agent at {socket}: {source}; is sdn-agent running on this node? Its pods are in the same \
             namespace as the network's DaemonSet; it may be starting or being updated"
    )]
    Absent {
        /// The agent's socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody listens, but no answer came.
    #[error("waiting for the agent at {socket}: {source}; it may be starting, being updated, or overloaded")]
    Silent {
        /// The agent's socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it said was not understood.
    #[error("talking to the agent at {socket}: {source}")]
    Protocol {
        /// The agent's socket.
        socket: PathBuf,
        /// Why.
        source: ProtocolError,
    },
    /// It refused.
    #[error(transparent)]
    Refused(#[from] Failure),
}

// === impl Client ===

impl Client {
    /// Connects; `patience` is for each wait from now on, in the queue of the socket too.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        // Not UnixStream::connect: where the queue is full, that waits without end.
        let connected = || -> nix::Result<UnixStream> {
            let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            let patience = TimeVal::new(patience.as_secs().cast_signed(), i64::from(patience.subsec_micros()));
            setsockopt(&fd, sockopt::SendTimeout, &patience)?;
            setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
            connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
            Ok(fd.into())
        };
        match connected() {
            Ok(stream) => Ok(Self { socket: path.into(), stream: BufReader::new(stream) }),
            Err(Errno::EAGAIN) => Err(ClientError::Silent { socket: path.into(), source: Errno::ETIMEDOUT.into() }),
            Err(errno) => Err(ClientError::Absent { socket: path.into(), source: errno.into() }),
        }
    }

    /// Asks and waits for the answer. A refusal is an error.
    pub fn ask(&mut self, request: &Request) -> Result<Response, ClientError> {
        let line = encode(request).map_err(|source| ClientError::Protocol { socket: self.socket.clone(), source })?;
        let sent = self.stream.get_mut().write_all(&line);
        // An agent that refuses before it has read everything has said why.
        let answer = self.receive();
        match (sent, answer) {
            (_, Ok(Response::Failure(failure))) => Err(failure.into()),
            (Err(source), _) => Err(self.silent(source)),
            (Ok(()), answer) => answer,
        }
    }

    fn receive(&mut self) -> Result<Response, ClientError> {
        let mut line = Vec::new();
        let limit = MAX_MESSAGE as u64 + 1;
        let read = Read::take(&mut self.stream, limit).read_until(b'\n', &mut line);
        read.map_err(|source| self.silent(source))?;
        if line.last() != Some(&b'\n') && line.len() <= MAX_MESSAGE {
            return Err(self.silent(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")));
        }
        decode(&line).map_err(|source| ClientError::Protocol { socket: self.socket.clone(), source })
    }

    fn silent(&self, source: io::Error) -> ClientError {
        let source = if source.kind() == io::ErrorKind::WouldBlock { Errno::ETIMEDOUT.into() } else { source };
        ClientError::Silent { socket: self.socket.clone(), source }
    }
}

// === impl ClientError ===

impl ClientError {
    /// As a failure of an operation.
    pub fn into_failure(self, operation: &str) -> Failure {
        let code = match &self {
            Self::Refused(failure) => return failure.clone(),
            Self::Absent { .. } | Self::Silent { .. } => code::TRY_AGAIN_LATER,
            Self::Protocol { .. } => code::PROTOCOL,
        };
        Failure::new(code, operation, self.to_string())
    }
}
