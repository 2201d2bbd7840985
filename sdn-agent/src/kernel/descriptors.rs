//! kernel/descriptors
