//! Works out which rule a packet matches, in the plainest way. It shares no code with the BPF programs or with the
//! compiler of rules, so tests compare their results with its own.

mod datagrams;
pub mod evaluate;
pub mod frame;
pub mod random;
mod random_frame;

pub use datagrams::Datagrams;
