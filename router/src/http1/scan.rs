//! Where a head ends, line by line, before anything else looks at it.

use super::Refusal;

/// How far a head was looked at. Made new for each; what was seen is not looked at again when more arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Empty lines before the first one, which a server ignores (RFC 9112 §2.2).
    leading: usize,
    /// No LF before here is unseen.
    seen: usize,
    /// Where the line starts that `seen` is in.
    line: usize,
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// The head lies from `start` to before `end`, its empty line included.
    Complete {
        /// After the empty lines that were ignored.
        start: usize,
        /// Where the body starts.
        end: usize,
    },
    /// Its end is not there yet.
    Partial,
}

impl Scan {
    /// Looks at the bytes of `head` that are new since the last call; `limit` is what a head may have.
    pub fn scan(&mut self, head: &[u8], limit: usize) -> Result<Scanned, Refusal> {
        let visible = &head[..head.len().min(limit)];
        while let Some(at) = memchr::memchr(b'\n', &visible[self.seen..]).map(|at| at + self.seen) {
            if at == 0 || visible[at - 1] != b'\r' {
                return Err(Refusal::BareLf);
            }
            let empty = at - 1 == self.line;
            self.seen = at + 1;
            self.line = at + 1;
            if !empty {
                continue;
            }
            if at - 1 == self.leading {
                self.leading = at + 1;
                continue;
            }
            return Ok(Scanned::Complete { start: self.leading, end: at + 1 });
        }
        self.seen = visible.len();
        if head.len() >= limit { Err(self.too_large(visible)) } else { Ok(Scanned::Partial) }
    }

    /// Whether bytes other than ignored empty lines arrived: a request has begun.
    pub fn has_begun(&self) -> bool {
        self.seen > self.leading
    }

    fn too_large(&self, visible: &[u8]) -> Refusal {
        if self.line == self.leading && visible.len() > self.line {
            Refusal::TargetTooLong
        } else {
            Refusal::HeadTooLarge
        }
    }
}
