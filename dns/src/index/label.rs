//! Labels of endpoints and pods: addresses as names.

use std::net::IpAddr;

/// A label being made, without touching the heap.
#[derive(Debug)]
pub(crate) struct Label {
    bytes: [u8; 64],
}

impl Label {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; 64] }
    }

    /// Its length and contents.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.bytes[..=usize::from(self.bytes[0])]
    }

    fn contents(&self) -> &[u8] {
        &self.wire()[1..]
    }

    pub(super) fn set(&mut self, bytes: impl Iterator<Item = u8>) {
        self.bytes[0] = 0;
        bytes.for_each(|byte| self.push(byte));
    }

    /// What does not fit is cut; names of Kubernetes fit.
    fn push(&mut self, byte: u8) {
        let length = usize::from(self.bytes[0]) + 1;
        if let Some(place) = self.bytes.get_mut(length) {
            *place = byte;
            self.bytes[0] += 1;
        }
    }

    pub(super) fn set_text(&mut self, text: std::fmt::Arguments<'_>) {
        self.bytes[0] = 0;
        let written = std::fmt::Write::write_fmt(self, text);
        debug_assert!(written.is_ok(), "writing into memory cannot fail");
    }

    /// The address with dashes; nothing may end with one.
    pub(super) fn set_address(&mut self, address: IpAddr) {
        self.set_text(format_args!("{address}"));
        let length = usize::from(self.bytes[0]);
        for byte in &mut self.bytes[1..=length] {
            if matches!(byte, b'.' | b':') {
                *byte = b'-';
            }
        }
        if self.bytes[length] == b'-' {
            self.push(b'0');
        }
    }
}

impl std::fmt::Write for Label {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// The address that a label says with dashes, as `10-1-2-3` or `fd01--5`.
pub(crate) fn dashed_address(label: &[u8]) -> Option<IpAddr> {
    let mut text = [0; 64];
    let text = text.get_mut(..label.len())?;
    text.copy_from_slice(label);
    let dashes = label.iter().filter(|byte| **byte == b'-').count();
    let is_v4 = dashes == 3 && !label.windows(2).any(|pair| pair == b"--");
    for byte in text.iter_mut().filter(|byte| **byte == b'-') {
        *byte = if is_v4 { b'.' } else { b':' };
    }
    let text = std::str::from_utf8(text).ok()?;
    if is_v4 { text.parse().ok().map(IpAddr::V4) } else { text.parse().ok().map(IpAddr::V6) }
}

/// Whether a label is the one that we make of the address.
pub(super) fn is_canonical(address: IpAddr, label: &[u8]) -> bool {
    let mut own = Label::new();
    own.set_address(address);
    own.contents() == label
}

/// What OpenShift 3 called an endpoint without a hostname: FNV-1a of 32 bits of its address in text.
pub(super) fn legacy_hash(address: IpAddr) -> u32 {
    let mut text = Label::new();
    text.set_text(format_args!("{address}"));
    text.contents().iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
