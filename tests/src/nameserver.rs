//! The name server of a lab's internet: knows a few names, and counts what it is asked.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use crate::family::IpFamily;
use crate::sandbox::Sandbox;
use crate::standin::udp;

/// The port of name servers.
pub const PORT: u16 = 53;

/// A name with one address of each family.
pub const KNOWN_NAME: &str = "example.test";

/// An alias of it.
pub const ALIAS: &str = "www.example.test";

/// A name with more addresses than a datagram holds.
pub const LARGE_NAME: &str = "large.example.test";

/// A name that nobody has.
pub const UNKNOWN_NAME: &str = "nobody.test";

/// Addresses of [`LARGE_NAME`], of each family.
pub const LARGE: u8 = 100;

/// Seconds for which answers may be kept, and for which it may be remembered that there is none.
const TTL: u32 = 30;
const NEGATIVE_TTL: u32 = 5;

/// A running name server; dropping it closes its ports.
#[derive(Debug)]
pub struct NameServer {
    asked: Arc<Asked>,
    tasks: [JoinHandle<()>; 2],
}

/// Questions by name.
#[derive(Debug, Default)]
struct Asked(Mutex<BTreeMap<String, u64>>);

/// The address of [`KNOWN_NAME`].
pub fn known_address(family: IpFamily) -> IpAddr {
    large_address(family, 0)
}

fn large_address(family: IpFamily, number: u8) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::new(198, 51, 100, number).into(),
        IpFamily::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x5133, 0, 0, 0, 0, number.into()).into(),
    }
}

impl NameServer {
    /// Opens port 53, UDP and TCP, on all addresses inside `sandbox`; served on `runtime`.
    pub(crate) fn open(sandbox: &Sandbox, runtime: &Handle) -> Result<Self> {
        let all = SocketAddr::from(([0u16; 8], PORT));
        let (socket, listener) = sandbox
            .within(|| Ok((std::net::UdpSocket::bind(all)?, std::net::TcpListener::bind(all)?)))
            .context("open the port of a name server")?;
        listener.set_nonblocking(true).context("make a listener non-blocking")?;
        let asked = Arc::<Asked>::default();
        let counted = asked.clone();
        let datagrams = udp::serve(socket, runtime, move |query, _| counted.answer(query, true))?;
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener).context("hand a listener to the runtime")?;
        let connections = runtime.spawn(accept(listener, asked.clone()));
        Ok(Self { asked, tasks: [datagrams, connections] })
    }

    /// How often `name` was asked for, of whatever type.
    pub fn asked(&self, name: &str) -> u64 {
        self.asked.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(name).copied().unwrap_or(0)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, asked: Arc<Asked>) {
    // Dropped with this task: open connections end with their port.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(converse(stream, asked.clone()))),
            Err(error) => {
                tracing::warn!("accept as a name server: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Messages with their lengths before them (RFC 7766), until the client is gone.
async fn converse(mut stream: TcpStream, asked: Arc<Asked>) -> io::Result<()> {
    loop {
        let mut query = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut query).await?;
        let Some(answer) = asked.answer(&query, false) else { continue };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat()).await?;
    }
}

// === impl Asked ===

impl Asked {
    /// The answer to a message; none to what is no query. `cut`: to what fits into a datagram.
    fn answer(&self, query: &[u8], cut: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        let [question] = &query.queries[..] else { return None };
        let name = question.name().to_lowercase().to_ascii();
        let name = name.trim_end_matches('.');
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).entry(name.to_owned()).or_default() += 1;
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(question.clone());
        match records(name, question.query_type()) {
            Some(records) => {
                let data = records.into_iter().map(|(owner, data)| Record::from_rdata(owner, TTL, data));
                answer.add_answers(data);
            }
            None => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        if answer.answers.is_empty() {
            answer.add_authority(Record::from_rdata(name_of("test"), NEGATIVE_TTL, RData::SOA(authority())));
        }
        let text = answer.to_vec().ok()?;
        let most = usize::from(query.max_payload());
        if cut && text.len() > most { answer.truncate().to_vec().ok() } else { Some(text) }
    }
}

/// What there is of a type under a name, with whose it is; `None` when there is no such name.
fn records(name: &str, kind: RecordType) -> Option<Vec<(Name, RData)>> {
    let numbers = match name {
        KNOWN_NAME | ALIAS => 0..1,
        LARGE_NAME => 0..LARGE,
        _ => return None,
    };
    let owner = if name == ALIAS { KNOWN_NAME } else { name };
    let alias = (name == ALIAS).then(|| (name_of(ALIAS), RData::CNAME(CNAME(name_of(KNOWN_NAME)))));
    let data = |number| match kind {
        RecordType::A => Some(large_address(IpFamily::V4, number).into()),
        RecordType::AAAA => Some(large_address(IpFamily::V6, number).into()),
        _ => None,
    };
    let own = numbers.filter_map(data).map(|data| (name_of(owner), data));
    Some(alias.into_iter().chain(own).collect())
}

fn authority() -> SOA {
    SOA::new(name_of("ns.test"), name_of("hostmaster.test"), 1, 3600, 600, 86_400, NEGATIVE_TTL)
}

fn name_of(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("the names above, and those found equal to them, are names");
    name.set_fqdn(true);
    name
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::names::{Transport, ask};
    use crate::sandbox::Namespace;

    #[test]
    fn names_are_answered_over_both_transports_and_counted() {
        let sandbox = Sandbox::from(Namespace::new_net().unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = NameServer::open(&sandbox, runtime.handle()).unwrap();
        let (a, aaaa) = (RecordType::A, RecordType::AAAA);
        let v4 = known_address(IpFamily::V4).to_string();
        let v6 = known_address(IpFamily::V6).to_string();
        // name, type, code, records
        let rows: [(&str, RecordType, &str, &[&str]); 6] = [
            (KNOWN_NAME, a, "NOERROR", &[&v4]),
            ("Example.Test", aaaa, "NOERROR", &[&v6]),
            (ALIAS, a, "NOERROR", &[&v4]),
            (KNOWN_NAME, RecordType::SRV, "NOERROR", &[]),
            (UNKNOWN_NAME, a, "NXDOMAIN", &[]),
            ("nobody.example.test", aaaa, "NXDOMAIN", &[]),
        ];
        let ask = |over, name: &str, kind| {
            let address = SocketAddr::from(([127, 0, 0, 1], PORT));
            sandbox.within_async(async || Ok(ask(over, address, name, kind, Duration::from_secs(2)).await)).unwrap()
        };
        for over in [Transport::Udp, Transport::Tcp] {
            for (name, kind, code, records) in rows {
                let answer = ask(over, name, kind).unwrap();
                assert_eq!((answer.code.as_str(), answer.records.len()), (code, records.len()), "{name} {kind}");
                assert!(records.iter().all(|record| answer.records.contains(*record)), "{name}: {answer:?}");
            }
            let large = ask(over, LARGE_NAME, a).unwrap();
            assert_eq!(large.truncated, over == Transport::Udp);
            assert!(large.truncated || large.records.len() == usize::from(LARGE));
        }
        assert_eq!((server.asked(KNOWN_NAME), server.asked(UNKNOWN_NAME), server.asked("other.test")), (6, 2, 0));
    }
}
