//! The filter: from the text of flags and of files (`file`) to rules (`rule`, of `fields`) to the masks that the tc
//! programs classify by (`compile`) and back (`decompile`), and rules for people to read (`render`, `diff`,
//! `explanation`).

mod compile;
pub mod copies;
mod decompile;
pub mod diff;
mod entries;
pub mod explanation;
pub mod fields;
pub mod file;
mod json;
mod prefix;
pub mod prefix_sets;
mod prefixes;
mod ranges;
pub mod render;
mod rule;
mod tables;

pub use compile::{CompiledRule, CompiledRules, MAX_RULES, compile};
pub use decompile::decompile;
pub use entries::{Entries, comma_list};
pub use fields::Field;
pub use prefix::{Family, Prefix};
pub use ranges::Segments;
pub use rule::{
    Action, IcmpType, MIN_SNAPLEN, Rule, Sample, SampleBy, Snaplen, TcpFlags, UNTAGGED,
};
pub use tables::{Masks, Table, Tables};
