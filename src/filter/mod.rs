//! The filter: from the text of flags (`parse`) and of files (`file`) to rules (`rule`) to the
//! masks that the tc programs classify by (`compile`) and back (`decompile`), and rules for people to
//! read (`show`, `changes`). Pure: nothing here knows of BPF.

pub mod changes;
mod compile;
mod decompile;
pub mod explanation;
pub mod file;
mod json;
mod networks;
pub mod parse;
mod ranges;
mod rule;
pub mod show;

pub use compile::{ICMPV6, MAX_RULES, RuleEntry, RuleSet, compile};
pub use decompile::decompile;
pub use networks::Prefix;
pub use ranges::Segments;
pub use rule::{
    Action, Field, IcmpType, MIN_SNAPLEN, Rule, Sample, SampleBy, Snaplen, TcpFlags, UNTAGGED,
};
