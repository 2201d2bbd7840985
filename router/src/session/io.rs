//! Connections of every kind behind one type.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{client, server};

/// A connection to a client or to a pod.
#[derive(Debug)]
pub enum Io {
    /// TCP.
    Plain(TcpStream),
    /// TCP of which something was read already.
    Replay(Box<Replay>),
    /// A client's TLS, which ends here.
    Server(Box<server::TlsStream<Replay>>),
    /// TLS to a pod.
    Client(Box<client::TlsStream<TcpStream>>),
}

/// A connection whose first bytes were read already, and are read again.
#[derive(Debug)]
pub struct Replay {
    first: Vec<u8>,
    taken: usize,
    stream: TcpStream,
}

// === impl Io ===

impl Io {
    /// Reads once into `bytes`; 0 at the end.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(bytes);
        let result = match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Self::Replay(stream) => Pin::new(&mut **stream).poll_read(cx, &mut buffer),
            Self::Server(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Self::Client(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        match ready!(result) {
            Ok(()) => Poll::Ready(Ok(buffer.filled().len())),
            // A peer that ends TCP without ending TLS: as much as HTTP's own framing says is believed.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Writes once; how many bytes were taken.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            // One part is sent for less than a list of one.
            Self::Plain(stream) if parts.len() == 1 => Pin::new(stream).poll_write(cx, &parts[0]),
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Replay(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, parts),
            Self::Server(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Client(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    /// Ready when nothing that was written waits here.
    #[inline]
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) | Self::Replay(_) => Poll::Ready(Ok(())),
            Self::Server(stream) => Pin::new(stream).poll_flush(cx),
            Self::Client(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Ends this direction; the other may go on.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Replay(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Server(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Client(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Bytes come over TLS.
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Server(_) | Self::Client(_))
    }

    /// Whether the other side has neither closed nor said anything, as far as the runtime has heard: no system call
    /// unless it has heard something.
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut byte = [0];
        match self {
            Self::Plain(stream) => {
                matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            // Tickets that come after a handshake are taken in.
            _ => self.poll_read(&mut cx, &mut byte).is_pending(),
        }
    }

    /// The TCP connection's other end.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.peer_addr(),
            Self::Replay(stream) => stream.stream.peer_addr(),
            Self::Server(stream) => stream.get_ref().0.stream.peer_addr(),
            Self::Client(stream) => stream.get_ref().0.peer_addr(),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = ready!(Io::poll_read(&mut self, cx, buffer.initialize_unfilled()))?;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Io::poll_write(&mut self, cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Io::poll_write(&mut self, cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)
    }
}

// === impl Replay ===

impl Replay {
    /// `first` was read from `stream`.
    pub fn new(first: Vec<u8>, stream: TcpStream) -> Self {
        Self { first, taken: 0, stream }
    }
}

impl AsyncRead for Replay {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = buffer.remaining().min(self.first.len() - self.taken);
        buffer.put_slice(&self.first[self.taken..self.taken + count]);
        self.taken += count;
        if self.taken == self.first.len() {
            self.first = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
