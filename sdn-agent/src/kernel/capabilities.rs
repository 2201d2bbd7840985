//! kernel/capabilities
