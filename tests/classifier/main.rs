//! The tc programs under `BPF_PROG_TEST_RUN`: packet in, verdict out. Everything that loads a
//! program needs root and says so in its name. No test touches an interface, a pin or a namespace
//! of the host's.

mod against_oracle;
mod captures;
mod chain;
mod corpus;
mod datagram;
#[path = "../oracle/datagrams.rs"]
mod datagrams;
mod explain;
#[path = "../oracle/frame.rs"]
mod frame;
mod fuzz;
mod generations;
mod guard;
mod gue;
mod gue6;
mod harness;
mod large;
mod matching;
#[path = "../oracle/meaning.rs"]
mod meaning;
mod objects;
mod oversize;
mod packets;
mod packets6;
#[path = "../oracle/random.rs"]
mod random;
#[path = "../oracle/random_frame.rs"]
mod random_frame;
mod rate;
mod rules;
mod sampling;
mod shrink;
mod snaplen;
