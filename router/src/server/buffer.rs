//! Buffers that connections borrow only while bytes are in them, so that an idle connection costs little.

use std::{
    cell::RefCell,
    io,
    ops::Range,
    rc::Rc,
    task::{Context, Poll, ready},
};

use crate::session::Io;

/// The free buffers of one core.
#[derive(Debug)]
pub struct Pool {
    size: usize,
    free: RefCell<Vec<Box<[u8]>>>,
}

/// Bytes on their way. Empty it holds nothing of the pool.
#[derive(Debug)]
pub struct Buffer {
    pool: Rc<Pool>,
    bytes: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

/// Free buffers that are kept: what more is given back is freed.
const KEPT: usize = 1024;

// === impl Pool ===

impl Pool {
    /// Of buffers of `size` bytes.
    pub fn new(size: usize) -> Rc<Self> {
        Rc::new(Self { size, free: RefCell::default() })
    }

    /// Free buffers at the moment.
    pub fn free(&self) -> usize {
        self.free.borrow().len()
    }

    fn take(&self) -> Box<[u8]> {
        self.free.borrow_mut().pop().unwrap_or_else(|| vec![0; self.size].into_boxed_slice())
    }

    fn give(&self, bytes: Box<[u8]>) {
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT {
            free.push(bytes);
        }
    }
}

// === impl Buffer ===

impl Buffer {
    /// An empty one.
    pub fn new(pool: &Rc<Pool>) -> Self {
        Self { pool: pool.clone(), bytes: None, start: 0, end: 0 }
    }

    /// One that has these bytes, or the error that they are more than a buffer takes.
    pub fn with(pool: &Rc<Pool>, content: &[u8]) -> io::Result<Self> {
        let mut buffer = Self::new(pool);
        if content.len() > pool.size {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "more bytes than a buffer takes"));
        }
        if !content.is_empty() {
            let bytes = buffer.bytes.insert(pool.take());
            bytes[..content.len()].copy_from_slice(content);
            buffer.end = content.len();
        }
        Ok(buffer)
    }

    /// The bytes in it.
    #[inline]
    pub fn filled(&self) -> &[u8] {
        self.bytes.as_deref().map_or(&[], |bytes| &bytes[self.start..self.end])
    }

    /// The bytes in it, to be changed.
    #[inline]
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.as_deref_mut().map_or(&mut [], |bytes| &mut bytes[self.start..self.end])
    }

    /// A part of the bytes in it.
    pub fn part(&self, range: Range<usize>) -> &[u8] {
        &self.filled()[range]
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// There is no room behind the bytes in it, nor before.
    pub fn is_full(&self) -> bool {
        self.end - self.start == self.pool.size
    }

    /// Takes the first `count` bytes out; with the last ones the buffer goes back to the pool.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        if let Some(bytes) = self.bytes.take() {
            self.pool.give(bytes);
        }
    }

    /// Reads what there is, once. 0: the other side has closed. With a full buffer an error.
    #[inline]
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, io: &mut Io) -> Poll<io::Result<usize>> {
        if self.is_full() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, "the buffer is full")));
        }
        let bytes = self.bytes.get_or_insert_with(|| self.pool.take());
        if self.end == bytes.len() {
            bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let result = io.poll_read(cx, &mut bytes[self.end..]);
        if let Poll::Ready(Ok(count)) = result {
            self.end += count;
        }
        if self.is_empty() {
            self.clear();
        }
        Poll::Ready(ready!(result))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clear();
    }
}
