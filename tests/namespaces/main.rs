//! Tests with real namespaces and real traffic. They need root, and say so in their names.

mod fixture;
mod support;
