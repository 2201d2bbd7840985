//! The router's own answers.

use std::{future::poll_fn, path::Path, time::Instant};

use crate::{
    config::Settings,
    http1::{self, Version, field},
    server::Core,
    session::{Answer, Client, Exchange, Sent, Side},
};

/// The pages, read at start.
#[derive(Debug)]
pub struct Pages {
    unavailable: Page,
    not_found: Option<Page>,
}

#[derive(Clone, Debug)]
struct Page {
    content_type: Vec<u8>,
    body: Vec<u8>,
}

const UNAVAILABLE: &str = include_str!("unavailable.html");
const HTML: &[u8] = b"text/html; charset=utf-8";
/// Before a client that does not read is left alone.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

// === impl Pages ===

impl Pages {
    /// The pages that the settings name; those that cannot be read are replaced by ours, and that is logged.
    pub fn read(settings: &Settings) -> Self {
        let own = Page { content_type: HTML.to_vec(), body: UNAVAILABLE.into() };
        let read = |path: &Path| match std::fs::read(path) {
            Ok(file) => Some(Page::parse(&file)),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "reading an error page; the router's own stands in");
                None
            }
        };
        Self {
            unavailable: settings.page_503.as_deref().and_then(read).unwrap_or_else(|| own.clone()),
            not_found: settings.page_404.as_deref().map(|path| read(path).unwrap_or(own)),
        }
    }

    fn find(&self, status: u16) -> Option<&Page> {
        match status {
            503 => Some(&self.unavailable),
            404 => Some(self.not_found.as_ref().unwrap_or(&self.unavailable)),
            _ => None,
        }
    }
}

// === impl Page ===

impl Page {
    /// A page, or a whole response as HAProxy's error files have it: of its head only the type counts.
    fn parse(file: &[u8]) -> Self {
        let html = || HTML.to_vec();
        if !file.starts_with(b"HTTP/") {
            return Self { content_type: html(), body: file.to_vec() };
        }
        let ends = [&b"\r\n\r\n"[..], b"\n\n"].map(|end| memchr::memmem::find(file, end).map(|at| at + end.len()));
        let end = ends.into_iter().flatten().min().unwrap_or(file.len());
        let lines = file[..end].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let mut types = lines.filter_map(|line| {
            let (name, value) = line.split_at_checked("content-type:".len())?;
            name.eq_ignore_ascii_case(b"content-type:").then(|| value.trim_ascii().to_vec())
        });
        Self { content_type: types.next().unwrap_or_else(html), body: file[end..].to_vec() }
    }
}

/// Answers a client; false if it did not take all of it.
pub async fn refuse(core: &Core, client: &mut Client, exchange: &mut Exchange, answer: &Answer, keeps: bool) -> bool {
    exchange.status = answer.status;
    exchange.end = answer.end;
    if answer.reason.is_some() {
        exchange.reason.clone_from(&answer.reason);
    }
    let reason = http1::reason(answer.status);
    let plain = format!("<html><body><h1>{} {reason}</h1>\n</body></html>\n", answer.status);
    let (content_type, body) = match core.shared.pages.find(answer.status) {
        Some(page) => (&page.content_type[..], &page.body[..]),
        None if answer.location.is_some() => (HTML, &b""[..]),
        None => (HTML, plain.as_bytes()),
    };
    let mut fields = vec![("Cache-Control", "no-cache")];
    match &answer.location {
        Some(location) => fields.push(("Location", location)),
        None => fields.push(("Content-Type", std::str::from_utf8(content_type).unwrap_or("text/html"))),
    }
    say(client, exchange, answer.status, &fields, body, keeps).await
}

/// Answers a client with fields and a body; false if it did not take all of it.
pub async fn say(
    client: &mut Client,
    exchange: &mut Exchange,
    status: u16,
    fields: &[(&str, &str)],
    body: &[u8],
    keeps: bool,
) -> bool {
    let out = &mut exchange.down;
    out.clear();
    let version = exchange.request.version;
    http1::status_line(&mut out.before, version, status, b"");
    for (name, value) in fields {
        field(&mut out.before, name.as_bytes(), value.as_bytes());
    }
    crate::forward::write_length(&mut out.before, body.len() as u64);
    match (version, keeps) {
        (Version::Http11, false) => field(&mut out.before, b"Connection", b"close"),
        (Version::Http10, true) => field(&mut out.before, b"Connection", b"keep-alive"),
        _ => {}
    }
    out.before.extend_from_slice(b"\r\n");
    let body = if exchange.request.is_head(&exchange.head) { &[] } else { body };
    send(client, exchange, status, body).await
}

async fn send(client: &mut Client, exchange: &mut Exchange, status: u16, body: &[u8]) -> bool {
    if let Side::Http2(stream) = &mut client.side
        && stream.send_head(status, &exchange.down.before, body.is_empty()).is_err()
    {
        return false;
    }
    client.deadline.set(Instant::now(), PATIENCE);
    let mut left = body;
    poll_fn(|cx| {
        loop {
            match client.side.poll_send(cx, &mut exchange.down, left, true, &[]) {
                std::task::Poll::Ready(Ok(Sent::Some(count))) => left = &left[count..],
                std::task::Poll::Ready(sent) => return std::task::Poll::Ready(sent.is_ok()),
                std::task::Poll::Pending => return client.deadline.poll_passed(cx).map(|()| false),
            }
        }
    })
    .await
}
