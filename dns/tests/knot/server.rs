//! Knot, and how it and others are asked.

use super::zone::Zones;
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, Record, RecordType},
    serialize::binary::BinEncodable,
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long Knot has to read its zones, and anybody to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest message by UDP, and what is so large that more may have been meant to be in it.
const LIMIT: u16 = 1232;
const NEARLY_FULL: usize = 1100;

/// Knot with its zones. Ends when it is dropped.
#[derive(Debug)]
pub struct Knot {
    child: Child,
    pub address: SocketAddr,
    _directory: TempDir,
}

/// Who asks one server.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    udp: UdpSocket,
}

/// What counts of a response, in an order of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub rcode: String,
    pub authoritative: bool,
    pub answers: Vec<String>,
    pub authorities: Vec<String>,
    pub additionals: Vec<String>,
}

// === impl Knot ===

impl Knot {
    /// Starts it, where it is installed.
    pub fn start(zones: &Zones) -> Option<Self> {
        // Those who are not root do not look there.
        let path = ["/usr/sbin/knotd", "/usr/bin/knotd", "/usr/local/sbin/knotd"];
        let knotd = path.into_iter().find(|path| Path::new(path).is_file())?;
        let directory = tempfile::tempdir().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        fs::write(directory.path().join("config"), config(directory.path(), address.port(), zones)).unwrap();
        let mut command = Command::new(knotd);
        command.arg("-c").arg(directory.path().join("config")).stdin(Stdio::null()).stdout(Stdio::null());
        let knot = Self { child: command.spawn().unwrap(), address, _directory: directory };
        let (client, deadline) = (Client::new(address), Instant::now() + PATIENCE);
        for zone in zones.keys() {
            let name = Name::from_str(&format!("{zone}.")).unwrap();
            while client.try_ask(&name, RecordType::SOA).is_none_or(|reply| reply.answers.is_empty()) {
                assert!(Instant::now() < deadline, "Knot does not serve {zone}: see what it says above");
                thread::sleep(Duration::from_millis(10));
            }
        }
        Some(knot)
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Writes the zones' files; the configuration that names them.
fn config(directory: &Path, port: u16, zones: &Zones) -> String {
    let mut text = format!(
        "\
server:
    rundir: {0}
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {0}
log:
  - target: stderr
    any: error
zone:
",
        directory.display()
    );
    for (zone, records) in zones {
        let lines: String = records.iter().map(|record| record.line()).collect();
        fs::write(directory.join(zone), lines).unwrap();
        text += &format!(
            "  - domain: {zone}
    storage: {}
    file: {zone}
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
",
            directory.display()
        );
    }
    text
}

// === impl Client ===

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(address).unwrap();
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { address, udp }
    }

    pub fn ask(&self, name: &Name, rtype: RecordType) -> Reply {
        self.try_ask(name, rtype).unwrap_or_else(|| panic!("no answer from {}: {name} {rtype}", self.address))
    }

    /// By UDP, and by TCP what does not fit, or only without some of its additional records (RFC 2181 section 9).
    fn try_ask(&self, name: &Name, rtype: RecordType) -> Option<Reply> {
        let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(name.clone(), rtype));
        let mut edns = Edns::new();
        edns.set_max_payload(LIMIT);
        query.set_edns(edns);
        let bytes = query.to_bytes().unwrap();
        let mut reply = [0; 4096];
        self.udp.send(&bytes).ok()?;
        let length = self.udp.recv(&mut reply).ok()?;
        let mut message = Message::from_vec(&reply[..length]).unwrap();
        if message.metadata.truncation || length > NEARLY_FULL {
            message = self.ask_tcp(&bytes)?;
        }
        assert_eq!((message.metadata.id, message.queries[0].name().to_string()), (4711, name.to_string()));
        Some(Reply::of(&message))
    }

    fn ask_tcp(&self, query: &[u8]) -> Option<Message> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = u16::try_from(query.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], query].concat()).ok()?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).ok()?;
        Some(Message::from_vec(&reply).unwrap())
    }
}

// === impl Reply ===

impl Reply {
    fn of(message: &Message) -> Self {
        Self {
            rcode: message.metadata.response_code.to_string(),
            authoritative: message.metadata.authoritative,
            answers: text(&message.answers),
            authorities: text(&message.authorities),
            additionals: text(&message.additionals),
        }
    }

    /// All in lower case, the code apart.
    pub fn lower(&mut self) {
        for section in [&mut self.answers, &mut self.authorities, &mut self.additionals] {
            section.iter_mut().for_each(|row| row.make_ascii_lowercase());
            section.sort();
        }
    }
}

/// Records in text and in the order of that: the resolver's is random. Serial numbers are each server's own.
fn text(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        let (name, ttl, rtype) = (&record.name, record.ttl, record.record_type());
        let data = match &record.data {
            hickory_proto::rr::RData::SOA(soa) => {
                let (server, mailbox) = (&soa.mname, &soa.rname);
                let (refresh, retry, expire, minimum) = (soa.refresh, soa.retry, soa.expire, soa.minimum);
                format!("{server} {mailbox} {refresh} {retry} {expire} {minimum}")
            }
            data => data.to_string(),
        };
        format!("{name} {ttl} {rtype} {data}")
    };
    let mut lines: Vec<String> = records.iter().map(line).collect();
    lines.sort();
    lines
}
