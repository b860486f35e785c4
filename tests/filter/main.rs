//! The filter from outside, without privileges: compiled rules against what rules mean, files of
//! rules against their schema.

mod compiled;
mod decompiled;
mod files;
#[path = "../oracle/frame.rs"]
mod frame;
mod frames;
#[path = "../oracle/meaning.rs"]
mod meaning;
#[path = "../oracle/random.rs"]
mod random;
#[path = "../oracle/random_frame.rs"]
mod random_frame;
#[path = "../oracle/schemas.rs"]
mod schemas;
