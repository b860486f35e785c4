//! Which rule a packet meets, worked out in the plainest way and apart from the programs and from the compiler
//! of rules: what these say is compared with it.

mod datagrams;
pub mod evaluate;
pub mod frame;
pub mod random;
mod random_frame;

pub use datagrams::Datagrams;
