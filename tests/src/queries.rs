//! Questions to a name server at a steady pace, each accounted for: answered, answered wrongly, or never.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hickory_proto::rr::RecordType;
use nix::sys::socket::{setsockopt, sockopt};

use crate::probe::names::{query, read};
use crate::probe::unspecified;
use crate::sandbox::Sandbox;

/// How long an answer is waited for after the last question.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a read waits before it looks whether it is over.
const TICK: Duration = Duration::from_millis(50);

/// Room of the receiving socket in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Wrong and lost answers that are told word by word.
const MOST_TOLD: usize = 5;

/// What is asked, and what has to be answered.
#[derive(Debug, Clone)]
pub struct Known {
    /// The whole name.
    pub name: String,
    /// The type of records.
    pub kind: RecordType,
    /// What they say.
    pub records: BTreeSet<String>,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    server: SocketAddr,
    began: Instant,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Who was asked.
    pub server: Option<SocketAddr>,
    /// Questions that left.
    pub sent: u64,
    /// Questions that were answered as expected.
    pub answered: u64,
    /// Questions that were not answered within two seconds after the last one.
    pub lost: u64,
    /// Questions answered otherwise.
    pub wrong: u64,
    /// The first of those answers, and the first questions that were lost.
    pub told: Vec<String>,
    /// Times that the kernel said that nobody is there.
    pub refused: u64,
    /// The longest time without any answer while questions were asked.
    pub longest_silence: Duration,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    questions: Vec<(Known, Vec<u8>)>,
    ended: AtomicBool,
    over: AtomicBool,
    tally: Mutex<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    report: Report,
    /// The questions without an answer yet, by id, with when they were asked.
    open: HashMap<u16, (usize, Instant)>,
    last_answer: Option<Instant>,
}

impl Load {
    /// Begins to ask `server` from inside `from`, `rate` times a second, the questions in turn.
    pub fn start(from: &Sandbox, server: SocketAddr, questions: Vec<Known>, rate: u32) -> Result<Self> {
        ensure!(!questions.is_empty(), "a load without questions");
        let encode = |known: Known| {
            let message = query(&known.name, known.kind).map_err(anyhow::Error::msg)?;
            anyhow::Ok((known, message))
        };
        let questions = questions.into_iter().map(encode).collect::<Result<Vec<_>>>()?;
        let socket = from.within(|| {
            let socket = UdpSocket::bind((unspecified(server.ip()), 0)).context("open a socket")?;
            // Connected, so that it shows when nobody is there.
            socket.connect(server).with_context(|| format!("connect to {server}"))?;
            Ok(socket)
        })?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("enlarge a receive buffer")?;
        socket.set_read_timeout(Some(TICK)).context("limit the time of reads")?;
        let [ended, over] = std::array::from_fn(|_| AtomicBool::new(false));
        let shared = Arc::new(Shared { socket, questions, ended, over, tally: Mutex::default() });
        let (asking, reading) = (shared.clone(), shared.clone());
        let ask = thread::Builder::new().name("ask".into()).spawn(move || asking.ask(Duration::from_secs(1) / rate));
        let read = thread::Builder::new().name("read".into()).spawn(move || reading.read());
        let threads = vec![ask.context("start to ask")?, read.context("start to read")?];
        Ok(Self { shared, threads, server, began: Instant::now() })
    }

    /// Ends it, waits for the last answers, and tells what came of it.
    pub fn finish(self) -> Report {
        self.shared.ended.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.shared.tally().open.is_empty() {
            thread::sleep(TICK);
        }
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        let mut tally = self.shared.tally();
        let mut lost: Vec<_> = std::mem::take(&mut tally.open).into_values().collect();
        lost.sort_by_key(|(_, asked)| *asked);
        tally.report.lost += lost.len() as u64;
        let told = lost.into_iter().take(MOST_TOLD).map(|(index, asked)| {
            let (Known { name, kind, .. }, _) = &self.shared.questions[index];
            let after = asked.saturating_duration_since(self.began).as_millis();
            format!("{name} {kind}, asked after {after} ms: no answer")
        });
        tally.report.told.extend(told);
        Report { server: Some(self.server), ..tally.report.clone() }
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn ask(&self, interval: Duration) {
        let began = Instant::now();
        for number in 0u32.. {
            let due = began + interval * number;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let index = number as usize % self.questions.len();
            let [.., high, low] = number.to_be_bytes();
            let id = u16::from_be_bytes([high, low]);
            let mut message = self.questions[index].1.clone();
            message[..2].copy_from_slice(&id.to_be_bytes());
            {
                // Noted before it leaves: the answer may be faster than this thread.
                let mut tally = self.tally();
                tally.report.sent += 1;
                let forgotten = tally.open.insert(id, (index, Instant::now()));
                tally.report.lost += u64::from(forgotten.is_some());
            }
            self.send(&message);
        }
    }

    /// An error that an earlier question came to is told when the next one is sent, which then has not left.
    fn send(&self, message: &[u8]) {
        while let Err(error) = self.socket.send(message) {
            if !self.is_passing(&error) {
                return;
            }
        }
    }

    /// Counts an error that leaves the socket usable.
    fn is_passing(&self, error: &io::Error) -> bool {
        let refused = error.kind() == io::ErrorKind::ConnectionRefused;
        self.tally().report.refused += u64::from(refused);
        refused
    }

    fn read(&self) {
        let mut buffer = [0; 4096];
        while !self.over.load(Ordering::Relaxed) {
            match self.socket.recv(&mut buffer) {
                Ok(length) => self.count(&buffer[..length], Instant::now()),
                Err(error) => _ = self.is_passing(&error),
            }
        }
    }

    fn count(&self, message: &[u8], now: Instant) {
        let &[high, low, ..] = message else { return };
        let mut tally = self.tally();
        let Some((index, _)) = tally.open.remove(&u16::from_be_bytes([high, low])) else { return };
        let (known, _) = &self.questions[index];
        let reply = read(message, known.kind);
        if reply.as_ref().is_some_and(|reply| reply.code == "NOERROR" && reply.records == known.records) {
            tally.report.answered += 1;
        } else {
            tally.report.wrong += 1;
            if tally.report.told.len() < MOST_TOLD {
                let said = reply.map_or("no answer that can be read".into(), |reply| reply.to_string());
                tally.report.told.push(format!("{} {}: {said}", known.name, known.kind));
            }
        }
        let silence = tally.last_answer.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        tally.report.longest_silence = tally.report.longest_silence.max(silence);
        tally.last_answer = Some(now);
    }
}

// === impl Report ===

impl Report {
    /// Whether every question was answered as expected.
    pub fn is_whole(&self) -> bool {
        self.sent > 0 && self.answered == self.sent
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, sent, answered, lost, wrong, told, refused, longest_silence } = self;
        let server = server.map_or("nobody".into(), |server| server.to_string());
        write!(
            f,
            "{server}: {sent} asked, {answered} answered, {lost} lost, {wrong} wrong, {refused} refused, at most {} ms silent",
            longest_silence.as_millis()
        )?;
        told.iter().try_for_each(|answer| write!(f, "; {answer}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::IpFamily;
    use crate::nameserver::{KNOWN_NAME, NameServer, PORT, UNKNOWN_NAME, known_address};
    use crate::sandbox::Namespace;

    #[test]
    fn every_question_is_accounted_for() {
        let sandbox = Sandbox::from(Namespace::new_net().unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let known = |name: &str| Known {
            name: name.into(),
            kind: RecordType::A,
            records: [known_address(IpFamily::V4).to_string()].into(),
        };
        let run = |names: &[&str], middle: &dyn Fn()| {
            let server = SocketAddr::from(([127, 0, 0, 1], PORT));
            let load = Load::start(&sandbox, server, names.iter().map(|name| known(name)).collect(), 500).unwrap();
            thread::sleep(Duration::from_millis(300));
            middle();
            thread::sleep(Duration::from_millis(300));
            load.finish()
        };
        let mut server = Some(NameServer::open(&sandbox, runtime.handle()).unwrap());
        let well = run(&[KNOWN_NAME], &|| ());
        assert!(well.is_whole() && well.sent > 150 && well.lost == 0, "{well}");
        let wrong = run(&[KNOWN_NAME, UNKNOWN_NAME], &|| ());
        assert!(wrong.wrong > 75 && wrong.answered > 75 && wrong.told.len() == MOST_TOLD, "{wrong}");
        assert!(wrong.told[0].contains("NXDOMAIN"), "{wrong}");
        // A server that goes: the port is closed when its task has ended.
        let server = Mutex::new(server.take());
        let gone = run(&[KNOWN_NAME], &|| drop(server.lock().unwrap().take()));
        assert!(!gone.is_whole() && gone.lost > 75 && gone.refused > 0, "{gone}");
    }
}
