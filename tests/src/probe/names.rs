//! Questions to name servers, by plain DNS messages: nothing is searched, nothing asked again.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::{Failure, timed, unspecified};

/// How a question is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A datagram each way.
    Udp,
    /// A connection for one question.
    Tcp,
}

/// What a name server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameReply {
    /// NOERROR, NXDOMAIN, SERVFAIL, or what else it was, as the IANA writes it.
    pub code: String,
    /// What the records of the type asked for say: an address, a name without its last dot, port and name of an SRV
    /// record.
    pub records: BTreeSet<String>,
    /// There would be more.
    pub truncated: bool,
}

/// Asks `server` once for records of a type.
pub async fn ask(
    over: Transport,
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    patience: Duration,
) -> Result<NameReply, Failure> {
    let query = query(name, kind).map_err(Failure::Nonsense)?;
    let id = [query[0], query[1]];
    let (answer, _) = match over {
        Transport::Udp => timed(over_udp(server, &query), patience).await?,
        Transport::Tcp => timed(over_tcp(server, &query), patience).await?,
    };
    if answer.get(..2) != Some(&id) {
        return Err(Failure::nonsense(&answer));
    }
    read(&answer, kind).ok_or_else(|| Failure::nonsense(&answer))
}

/// A question as stub resolvers send it, under an id of its own.
pub fn query(name: &str, kind: RecordType) -> Result<Vec<u8>, String> {
    static ASKED: AtomicU16 = AtomicU16::new(1);
    let mut name = Name::from_ascii(name).map_err(|error| format!("{name} is no name: {error}"))?;
    name.set_fqdn(true);
    let id = ASKED.fetch_add(1, Ordering::Relaxed);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message.to_vec().map_err(|error| error.to_string())
}

/// What a message says about records of a type; `None` when it is no answer.
pub fn read(message: &[u8], kind: RecordType) -> Option<NameReply> {
    let message = Message::from_vec(message).ok()?;
    if message.metadata.message_type != MessageType::Response {
        return None;
    }
    let code = match message.metadata.response_code {
        ResponseCode::NoError => "NOERROR".into(),
        ResponseCode::NXDomain => "NXDOMAIN".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::Refused => "REFUSED".into(),
        other => format!("{other:?}").to_uppercase(),
    };
    let own = message.answers.iter().filter(|record| record.record_type() == kind);
    let records = own.map(|record| say(&record.data)).collect();
    Some(NameReply { code, records, truncated: message.metadata.truncation })
}

fn say(data: &RData) -> String {
    let plain = |name: &Name| name.to_ascii().trim_end_matches('.').to_owned();
    match data {
        RData::SRV(record) => format!("{} {}", record.port, plain(&record.target)),
        RData::PTR(record) => plain(&record.0),
        RData::CNAME(record) => plain(&record.0),
        other => other.to_string(),
    }
}

async fn over_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((unspecified(server.ip()), 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).await?;
    Ok(answer[..length].to_vec())
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

impl fmt::Display for NameReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records: Vec<&str> = self.records.iter().map(String::as_str).collect();
        write!(f, "{} [{}]", self.code, records.join(", "))
    }
}
