//! The filter from outside, without privileges: compiled rules against what rules mean, files of
//! rules against their schema.

mod compiled;
mod decompiled;
mod files;
mod oracle_frames;
