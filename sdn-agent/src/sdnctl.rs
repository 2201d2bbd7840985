//! sdnctl
