//! Packets through the programs: tables of packets in, verdicts and packets out, run in the kernel by `BPF_PROG_TEST_RUN`.
//!
//! `harness` is how a row is written and run. The other modules are the tables, one for each thing that a reader may ask about.
#![forbid(unsafe_code)]

mod builder;
mod conntrack;
mod counting;
mod coverage;
mod delivery;
mod fragments;
mod gateway;
mod harness;
mod headers;
mod limits;
mod masquerade;
mod model;
mod policy;
mod property;
mod resolver;
mod sizes;
mod sources;
mod verifier;
mod wire;
