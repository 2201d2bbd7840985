//! A server: a process on the processor of servers.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::cluster::Cluster;
use crate::bench::agent::kibibytes;
use crate::bench::placement::{APART, Processor, stay_on};

/// Where those are who ask.
pub const CLIENTS: Processor = APART[0];
/// Where those are who answer.
const SERVERS: Processor = APART[1];

/// How long a server has to read its names.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that answers. Ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    /// Ours only: what is said to it, and what it says.
    lines: Option<(ChildStdin, BufReader<ChildStdout>)>,
    // Its configuration.
    _directory: Option<TempDir>,
}

impl Server {
    /// Our resolver, in a process of this program.
    pub fn ours(services: usize, upstream: SocketAddr) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe().context("find the running program")?);
        command.args(["serve-dns", "--services", &services.to_string(), "--port", &port.to_string(), "--upstream"]);
        command.arg(upstream.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = Self::start(command, port, None)?;
        if let (Some(stdin), Some(stdout)) = (server.child.stdin.take(), server.child.stdout.take()) {
            server.lines = Some((stdin, BufReader::new(stdout)));
        }
        // Its index is built in the background.
        if services > 0 {
            server.wait(services)?;
        }
        server.converse("hello")?;
        Ok(server)
    }

    /// Somebody else's, which has `directory` for its files.
    pub fn theirs(command: Command, port: u16, directory: TempDir, services: usize) -> Result<Self> {
        let server = Self::start(command, port, Some(directory))?;
        server.wait(services)?;
        Ok(server)
    }

    fn start(mut command: Command, port: u16, directory: Option<TempDir>) -> Result<Self> {
        // A child begins where its parent's thread is.
        let started = thread::spawn(move || {
            stay_on(SERVERS)?;
            command.spawn().with_context(|| format!("start {}", command.get_program().display()))
        });
        let child = started.join().map_err(|_| anyhow::anyhow!("the thread that starts a server panicked"))??;
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Ok(Self { child, address, lines: None, _directory: directory })
    }

    /// Until it knows the last of the Services.
    fn wait(&self, services: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let name = Cluster::domain(services.saturating_sub(1));
        while Instant::now() < deadline {
            if ask(self.address, &name).is_ok_and(|found| !found.is_empty()) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("no answer from the server at {} within {PATIENCE:?}: see what it says above", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id()).context("a process id")?))
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        Ok(kibibytes(self.pid()?, "status", "VmRSS:")? * 1024)
    }

    /// Time that its threads have run, in nanoseconds: the first number of schedstat, which is exact.
    pub fn cpu_time(&self) -> Result<u64> {
        let tasks = format!("/proc/{}/task", self.pid()?);
        let mut sum = 0;
        for task in fs::read_dir(&tasks).with_context(|| format!("list {tasks}"))? {
            let path = task.with_context(|| format!("list {tasks}"))?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let time = text.split_whitespace().next().and_then(|time| time.parse::<u64>().ok());
            sum += time.with_context(|| format!("find the time in {}", path.display()))?;
        }
        Ok(sum)
    }

    /// Ours: says a line, and reads what is said to that.
    pub fn converse(&mut self, said: &str) -> Result<String> {
        let (stdin, stdout) = self.lines.as_mut().context("this server is not ours")?;
        writeln!(stdin, "{said}").context("tell our server")?;
        let mut line = String::new();
        let length = stdout.read_line(&mut line).context("listen to our server")?;
        ensure!(length > 0, "our server has ended: see what it says above");
        Ok(line)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port of the loopback addresses that nobody uses.
pub fn free_port() -> Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("look for a free port")?;
    Ok(socket.local_addr().context("look for a free port")?.port())
}

/// The addresses of a name.
pub fn ask(server: SocketAddr, name: &str) -> Result<Vec<Ipv4Addr>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("open a client's socket")?;
    socket.connect(server).context("connect a client's socket")?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).context("limit a client's wait")?;
    let query = query(name);
    socket.send(&query).context("ask")?;
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer).context("wait for an answer")?;
    addresses(&buffer[..length], query.len())
}

/// A query for the addresses of a name.
pub fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// The addresses of a response whose records begin at `start`, and have their names there as pointers.
pub fn addresses(response: &[u8], start: usize) -> Result<Vec<Ipv4Addr>> {
    const RECORD: usize = 16;
    let head = response.get(..start).context("a response that is cut")?;
    ensure!(head[3] & 0x0f == 0, "response code {}", head[3] & 0x0f);
    let count = usize::from(u16::from_be_bytes([head[6], head[7]]));
    let records = response[start..].chunks_exact(RECORD).take(count);
    Ok(records.map(|record| Ipv4Addr::from([record[12], record[13], record[14], record[15]])).collect())
}
