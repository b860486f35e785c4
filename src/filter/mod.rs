//! The filter: from the text of flags (`parse`) and of files (`file`) to rules (`rule`) to the
//! masks that the tc programs classify by (`compile`) and back (`decompile`), and rules for people to
//! read (`show`, `changes`). Pure: nothing here knows of BPF.

mod compile;
mod decompile;
pub mod diff;
pub mod explanation;
pub mod file;
mod json;
mod networks;
pub mod parse;
pub mod prefix_sets;
mod ranges;
pub mod render;
mod rule;

pub use compile::{CompiledRule, CompiledRules, ICMPV6, MAX_RULES, compile};
pub use decompile::decompile;
pub use networks::Prefix;
pub use ranges::Segments;
pub use rule::{
    Action, Field, IcmpType, MIN_SNAPLEN, Rule, Sample, SampleBy, Snaplen, TcpFlags, UNTAGGED,
};
