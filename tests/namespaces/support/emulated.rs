//! Whether the machine is emulated: what its CPU takes for something says nothing then.

/// Those who know that it is say so by `SLOWNESS`.
pub fn is_emulated() -> bool {
    std::env::var_os("SLOWNESS").is_some()
}
