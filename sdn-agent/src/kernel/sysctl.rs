//! kernel/sysctl
