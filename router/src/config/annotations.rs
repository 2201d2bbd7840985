//! Annotations, by their names.

/// The names of annotations that are read.
pub mod annotation {
    /// roundrobin, leastconn, source or random.
    pub const BALANCE: &str = "haproxy.router.openshift.io/balance";
}

/// An annotation that is not used as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its name.
    pub annotation: &'static str,
    /// What is wrong, and what is done instead.
    pub message: String,
}
