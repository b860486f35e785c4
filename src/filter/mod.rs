//! The filter: from the text of the flags (`parse`) to rules (`rule`) to the masks that the tc
//! programs classify by (`compile`). Pure: nothing here knows of BPF.

mod compile;
pub mod parse;
mod rule;

pub use compile::{MAX_RULES, RuleSet, compile};
pub use rule::{Field, Rule};
