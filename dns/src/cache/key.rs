//! What an answer depends on, as bytes on the stack.

use std::fmt;

/// A name in wire form, type, class, and a byte of bits.
const MAX_KEY: usize = 255 + 2 + 2 + 1;

/// A question, whatever its spelling, and what of a query's bits changes its answer.
#[derive(Clone)]
pub(crate) struct Key {
    bytes: [u8; MAX_KEY],
    length: u16,
}

/// Bits that change an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyBits {
    /// DO: signatures are wanted (RFC 3225).
    pub(crate) dnssec_ok: bool,
    /// CD: answers that do not validate are wanted too (RFC 4035 section 3.2.2).
    pub(crate) checking_disabled: bool,
    /// RD: without it, upstreams tell what they know already.
    pub(crate) recursion_desired: bool,
}

impl Key {
    /// The key of a name in wire form, at most 255 bytes.
    pub(crate) fn new(name: &[u8], rtype: u16, class: u16, bits: KeyBits) -> Self {
        let mut bytes = [0; MAX_KEY];
        let name = &name[..name.len().min(255)];
        let length = name.len();
        bytes[..length].copy_from_slice(name);
        // Lengths of labels are below the letters.
        bytes[..length].make_ascii_lowercase();
        bytes[length..length + 2].copy_from_slice(&rtype.to_be_bytes());
        bytes[length + 2..length + 4].copy_from_slice(&class.to_be_bytes());
        bytes[length + 4] = bits.pack();
        Self { bytes, length: length as u16 + 5 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The name in lower case.
    pub(crate) fn name(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length) - 5]
    }

    pub(crate) fn bits(&self) -> KeyBits {
        KeyBits::unpack(self.bytes[usize::from(self.length) - 1])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {:?})", self.as_bytes().escape_ascii().to_string(), self.bits())
    }
}

impl KeyBits {
    fn pack(self) -> u8 {
        u8::from(self.dnssec_ok) | u8::from(self.checking_disabled) << 1 | u8::from(self.recursion_desired) << 2
    }

    fn unpack(byte: u8) -> Self {
        Self { dnssec_ok: byte & 1 != 0, checking_disabled: byte & 2 != 0, recursion_desired: byte & 4 != 0 }
    }
}
