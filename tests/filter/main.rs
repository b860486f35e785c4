//! The filter through its public interface, without privileges. Compiled rules are checked against
//! the meaning of rules, and files of rules against their schema.

mod compiled;
mod decompiled;
mod files;
mod oracle_frames;
