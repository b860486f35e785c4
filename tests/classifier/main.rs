//! The tc programs under `BPF_PROG_TEST_RUN`: packet in, verdict out. Everything that loads a
//! program needs root and says so in its name. No test touches an interface, a pin or a namespace
//! of the host's.

mod against_oracle;
mod captures;
mod chain;
mod corpus;
mod datagram;
mod explain;
mod fuzz;
mod generations;
mod guard;
mod gue;
mod gue6;
mod large;
mod matching;
mod objects;
mod oversize;
mod rate;
mod rules;
mod sampling;
mod shrink;
mod snaplen;
