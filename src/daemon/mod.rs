//! What a process does while it stays with its instance.

pub mod event_loop;
pub mod monitor;
pub mod publisher;
