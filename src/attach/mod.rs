//! Kernel hooks that a program is attached to, without a policy of when: the slot in the previous program's
//! PROG_ARRAY, TCX links, clsact filters.

pub mod chain;
pub mod clsact;
pub mod tcx;
