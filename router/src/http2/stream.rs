//! A stream of HTTP/2: one request and its response, as the server's side of it (to a client) or the client's (to a pod).

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream, client::ResponseFuture, server::SendResponse};
use http::{HeaderMap, Response, StatusCode};

use super::{fields, write_fields};
use crate::{
    http1::Known,
    session::{PassFault, Sent, trailer_fields},
};

/// A stream.
pub struct Stream {
    sending: Sending,
    /// To a pod: what its response comes from.
    response: Option<ResponseFuture>,
    receiving: Option<RecvStream>,
    data: Bytes,
    is_last: bool,
    trailers: Vec<u8>,
}

enum Sending {
    /// To a client: no head was sent yet.
    Response(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
    /// Everything was sent. Kept, so that a reset is heard of and the stream is not cancelled.
    Ended(#[expect(dead_code, reason = "dropping it cancels what is not sent")] Option<SendStream<Bytes>>),
}

// === impl Stream ===

impl Stream {
    /// A client's request, whose head was taken out.
    pub fn from_client(receiving: RecvStream, respond: SendResponse<Bytes>) -> Self {
        let is_last = receiving.is_end_stream();
        Self { receiving: Some(receiving), is_last, ..Self::new(Sending::Response(respond)) }
    }

    /// A request to a pod whose head was sent, and all of it if it `ended`.
    pub fn to_pod(response: ResponseFuture, sending: SendStream<Bytes>, ended: bool) -> Self {
        let sending = if ended { Sending::Ended(Some(sending)) } else { Sending::Body(sending) };
        Self { response: Some(response), ..Self::new(sending) }
    }

    fn new(sending: Sending) -> Self {
        Self { sending, response: None, receiving: None, data: Bytes::new(), is_last: false, trailers: Vec::new() }
    }

    /// Content that was received and not consumed.
    pub fn content(&self) -> &[u8] {
        &self.data
    }

    /// No content comes after it.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// The trailers, as lines.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Content was passed on: the sender may send as much more.
    pub fn consume(&mut self, count: usize) {
        self.data.advance(count);
        if let Some(receiving) = &mut self.receiving {
            // Fails only when more is released than was received.
            let _ = receiving.flow_control().release_capacity(count);
        }
    }

    /// Waits for more content, or to know that there is none.
    pub fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PassFault>> {
        while self.data.is_empty() && !self.is_last {
            let Some(receiving) = &mut self.receiving else {
                return Poll::Ready(Err(PassFault::From(io::ErrorKind::UnexpectedEof.into())));
            };
            match ready!(receiving.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.data = data;
                    self.is_last = receiving.is_end_stream();
                }
                Some(Err(error)) => return Poll::Ready(Err(PassFault::From(io::Error::other(error)))),
                None => {
                    let trailers = ready!(receiving.poll_trailers(cx));
                    let trailers = trailers.map_err(|error| PassFault::From(io::Error::other(error)))?;
                    self.take_trailers(trailers.unwrap_or_default());
                    self.is_last = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take_trailers(&mut self, trailers: HeaderMap) {
        self.trailers.clear();
        write_fields(&mut self.trailers, &trailers, Known::is_barred_from_trailers);
    }

    /// Sends content as far as the receiver has room.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        content: &[u8],
        is_last: bool,
        trailers: &[u8],
    ) -> Poll<io::Result<Sent>> {
        let Sending::Body(stream) = &mut self.sending else {
            return Poll::Ready(Ok(if is_last { Sent::Finished } else { Sent::All }));
        };
        if !content.is_empty() {
            stream.reserve_capacity(content.len());
            while stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                }
            }
            let count = stream.capacity().min(content.len());
            let ends = is_last && count == content.len() && trailers.is_empty();
            let sent = stream.send_data(Bytes::copy_from_slice(&content[..count]), ends);
            self.end_if(ends);
            return Poll::Ready(sent.map(|()| Sent::Some(count)).map_err(io::Error::other));
        }
        if !is_last {
            return Poll::Ready(Ok(Sent::All));
        }
        let sent = match trailers {
            [] => stream.send_data(Bytes::new(), true),
            lines => stream.send_trailers(trailer_fields(lines)),
        };
        self.end_if(true);
        Poll::Ready(sent.map(|()| Sent::Finished).map_err(io::Error::other))
    }

    fn end_if(&mut self, ends: bool) {
        if ends && let Sending::Body(stream) = std::mem::replace(&mut self.sending, Sending::Ended(None)) {
            self.sending = Sending::Ended(Some(stream));
        }
    }

    /// Sends a client the head of its response, given as that of HTTP/1; `ended`: there is no content.
    pub fn send_head(&mut self, status: u16, head: &[u8], ended: bool) -> io::Result<()> {
        let Sending::Response(respond) = &mut self.sending else {
            return Err(io::Error::other("a response was begun before"));
        };
        let response = response_of(status, head)?;
        let stream = respond.send_response(response, ended).map_err(io::Error::other)?;
        self.sending = if ended { Sending::Ended(Some(stream)) } else { Sending::Body(stream) };
        Ok(())
    }

    /// Sends a client an interim response.
    pub fn send_interim(&mut self, status: u16, head: &[u8]) -> io::Result<()> {
        let Sending::Response(respond) = &mut self.sending else { return Ok(()) };
        respond.send_informational(response_of(status, head)?).map_err(io::Error::other)
    }

    /// Ready when the client has cancelled its request.
    pub fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.sending {
            Sending::Response(respond) => ready!(respond.poll_reset(cx)),
            Sending::Body(stream) => ready!(stream.poll_reset(cx)),
            Sending::Ended(_) => return Poll::Pending,
        };
        drop(reset);
        Poll::Ready(())
    }

    /// Waits for the head of a pod's response, and writes it as that of HTTP/1.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(io::Error::other("the response's head was taken before")));
        };
        let response = ready!(std::pin::Pin::new(response).poll(cx)).map_err(io::Error::other)?;
        self.response = None;
        let (head, body) = response.into_parts();
        crate::http1::status_line(out, crate::http1::Version::Http11, head.status.as_u16(), b"");
        write_fields(out, &head.headers, super::is_of_connection);
        // A body without a length is framed as HTTP/1 would have to.
        self.is_last = body.is_end_stream();
        let bodiless = self.is_last || head.status == StatusCode::NO_CONTENT || head.status == StatusCode::NOT_MODIFIED;
        if !bodiless && !head.headers.contains_key(http::header::CONTENT_LENGTH) {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.receiving = Some(body);
        Poll::Ready(Ok(()))
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("is_last", &self.is_last).finish_non_exhaustive()
    }
}

fn response_of(status: u16, head: &[u8]) -> io::Result<Response<()>> {
    let line = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
    *response.headers_mut() = fields(&head[line..]);
    Ok(response)
}
