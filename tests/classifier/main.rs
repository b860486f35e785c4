//! The tc programs under `BPF_PROG_TEST_RUN`: packet in, verdict out. Everything that loads a
//! program needs root and says so in its name. No test touches an interface, a pin or a namespace
//! of the host's.

mod against_oracle;
mod chain;
mod corpus;
mod cost;
mod fuzz;
mod generations;
mod guard;
mod gue;
mod harness;
mod matching;
mod objects;
mod oracle;
mod oversize;
mod packets;
mod random;
mod rate;
