//! The Internet checksum (RFC 1071). It does not depend on byte order as long as all words are read the same way.

/// A 32-bit one's complement sum folded into 16 bits.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + ((sum >> 32) & 0xffff) + (sum >> 48);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum of a header in which one word became another (RFC 1624, equation 3).
#[inline(always)]
pub fn replaced(checksum: u16, old: u32, new: u32) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}
