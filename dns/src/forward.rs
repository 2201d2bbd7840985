//! What answers names that are not the cluster's.

/// A question, as it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The name in wire form (RFC 1035 section 3.1), uncompressed, with its final root label, in the case it was asked in.
    pub name: &'a [u8],
    /// QTYPE.
    pub rtype: u16,
    /// QCLASS.
    pub class: u16,
}

/// What answers a name that is not the cluster's. A clone is the same forwarder.
pub trait Forwarder: Clone + Send + Sync + 'static {
    /// Writes a complete response to the message `query` into `out` (emptied before), no longer than `max_size`, if it
    /// can be made at once from what is cached. Otherwise returns false, and what `out` has is of no use.
    fn answer_cached(&self, query: &[u8], question: &Question<'_>, max_size: usize, out: &mut Vec<u8>) -> bool;

    /// A complete response to the message `query`, no longer than `max_size`: SERVFAIL when nobody answers.
    fn resolve(&self, query: &[u8], max_size: usize) -> impl Future<Output = Vec<u8>> + Send;
}
