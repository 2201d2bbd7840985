//! Settings from variables.

/// A variable that is not used as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value:?}: {message}")]
pub struct SettingsFault {
    /// Its name.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong.
    pub message: String,
}
