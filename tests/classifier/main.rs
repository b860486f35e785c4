//! The tc programs under `BPF_PROG_TEST_RUN`: packet in, verdict out. Tests that load a program
//! need root and say so in their names. No test touches an interface, a pin or a namespace of the
//! host.

mod against_oracle;
mod captures;
mod chain;
mod encap;
mod encap_ipv6;
mod explain;
mod fragments;
mod fuzz;
mod generations;
mod large_rule_sets;
mod loop_guard;
mod matching;
mod objects;
mod oversize;
mod rate_limit;
mod rules;
mod sample_frames;
mod sampling;
mod shrink;
mod snaplen;
