//! TCP: a task a connection. Queries are taken as they come and answered as they are ready (RFC 7766 section 6.2.1.1).

use super::{Begun, PanicGuard, socket_error};
use crate::{
    config::TcpLimits,
    engine::{Arrival, Engine, Handled, Workspace},
    error::Error,
    forward::Forwarder,
    metrics::{Dropped, Transport},
    wire::HEADER,
};
use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};

/// How many connections there are, in all and of each client.
#[derive(Debug)]
struct Census {
    all: Arc<Semaphore>,
    clients: Mutex<HashMap<IpAddr, usize>>,
    per_client: usize,
}

/// A connection's place among them.
struct Place {
    census: Arc<Census>,
    client: IpAddr,
    _all: OwnedSemaphorePermit,
}

/// One connection.
struct Connection<F> {
    engine: Arc<Engine<F>>,
    client: IpAddr,
    limits: TcpLimits,
    stopped: watch::Receiver<bool>,
}

/// Where answers go, with the place among those in flight that each takes until it is written.
type Answers = mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>;

/// A pause when the system has no more descriptors or memory: it would say so again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves a listening socket until it is to stop, and then until its connections have ended.
pub(super) fn serve<F: Forwarder>(
    listener: std::net::TcpListener,
    engine: Arc<Engine<F>>,
    limits: TcpLimits,
    mut stopped: watch::Receiver<bool>,
    begun: Begun,
) -> Result<impl Future<Output = ()> + Send, Error> {
    let address = listener.local_addr();
    let made = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    let listener = made.map_err(|source| socket_error("TCP", address, source))?;
    let all = Arc::new(Semaphore::new(limits.connections));
    let census = Arc::new(Census { all, clients: Mutex::default(), per_client: limits.per_client });
    Ok(async move {
        begun.wait().await;
        let mut connections = JoinSet::new();
        let on_stop = stopped.clone();
        loop {
            let accepted = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let client = peer.ip().to_canonical();
            let place = if engine.clients.admits(client) { census.place(client) } else { None };
            let Some(place) = place else {
                engine.shared.stats.drop_query(Dropped::Connection);
                continue;
            };
            let connection = Connection { engine: engine.clone(), client, limits, stopped: on_stop.clone() };
            connections.spawn(connection.serve(stream, place));
        }
        while connections.join_next().await.is_some() {}
    })
}

// === impl Census ===

impl Census {
    /// A place for one more connection of this client, if there is one.
    fn place(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let all = self.all.clone().try_acquire_owned().ok()?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let own = clients.entry(client).or_default();
        if *own >= self.per_client {
            return None;
        }
        *own += 1;
        Some(Place { census: self.clone(), client, _all: all })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.census.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = clients.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

// === impl Connection ===

impl<F: Forwarder> Connection<F> {
    async fn serve(self, stream: TcpStream, place: Place) {
        let shared = self.engine.shared.clone();
        let _guard = PanicGuard(&shared);
        shared.connections.fetch_add(1, Ordering::Relaxed);
        // Answers are whole messages: none waits for another.
        let (read, write) = match stream.set_nodelay(true) {
            Ok(()) => stream.into_split(),
            Err(_) => return,
        };
        let (answers, written) = mpsc::channel(self.limits.in_flight.max(1));
        let limit = self.limits.write;
        tokio::join!(self.read(read, answers), write_all(write, written, limit));
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        drop(place);
    }

    /// Takes queries until there are no more, or something is wrong.
    async fn read(mut self, mut stream: tcp::OwnedReadHalf, answers: Answers) {
        let in_flight = Arc::new(Semaphore::new(self.limits.in_flight.max(1)));
        let mut work = Workspace::new();
        loop {
            let Ok(permit) = in_flight.clone().acquire_owned().await else { return };
            let mut stopped = self.stopped.clone();
            let message = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                () = answers.closed() => return,
                message = self.message(&mut stream, &in_flight) => message,
            };
            let Ok(message) = message else { return };
            if message.len() < HEADER || !self.answer(&message, permit, &answers, &mut work).await {
                return;
            }
        }
    }

    /// The next message: two bytes of length, and so many (RFC 1035 section 4.2.2).
    async fn message(&mut self, stream: &mut tcp::OwnedReadHalf, in_flight: &Semaphore) -> io::Result<Vec<u8>> {
        let mut length = [0; 2];
        loop {
            match timeout(self.limits.idle, stream.read_exact(&mut length[..1])).await {
                Ok(read) => {
                    read?;
                    break;
                }
                // A client that waits for answers is not idle. One place is this message's.
                Err(_) if in_flight.available_permits() + 1 < self.limits.in_flight.max(1) => {}
                Err(elapsed) => return Err(elapsed.into()),
            }
        }
        let rest = async {
            stream.read_exact(&mut length[1..]).await?;
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message).await?;
            Ok(message)
        };
        timeout(self.limits.read, rest).await?
    }

    /// Answers a message now or later; false when the connection is to end.
    async fn answer(
        &self,
        message: &[u8],
        permit: OwnedSemaphorePermit,
        answers: &Answers,
        work: &mut Workspace,
    ) -> bool {
        let engine = &self.engine;
        let arrival = Arrival { message, client: self.client, transport: Transport::Tcp, at: engine.now() };
        let mut out = Vec::new();
        let index = engine.index.load_full();
        match engine.handle(&index, arrival, work, &mut out, &engine.shared.stats) {
            Handled::Reply => answers.send((out, permit)).await.is_ok(),
            Handled::Silence => false,
            Handled::Later(later) => {
                let (engine, answers) = (engine.clone(), answers.clone());
                tokio::spawn(async move {
                    let _guard = PanicGuard(&engine.shared);
                    let reply = engine.answer_later(*later).await;
                    // Who closed the connection does not wait for it.
                    if !reply.is_empty() {
                        drop(answers.send((reply, permit)).await);
                    }
                });
                true
            }
        }
    }
}

/// Writes answers as they come, until there are no more or nobody takes them.
async fn write_all(
    mut stream: tcp::OwnedWriteHalf,
    mut answers: mpsc::Receiver<(Vec<u8>, OwnedSemaphorePermit)>,
    limit: Duration,
) {
    let mut framed = Vec::new();
    while let Some((answer, _permit)) = answers.recv().await {
        let Ok(length) = u16::try_from(answer.len()) else { return };
        framed.clear();
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&answer);
        if !matches!(timeout(limit, stream.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}
