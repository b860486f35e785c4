//! Waiting until every program that was running has ended.

use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

/// An update of a map of maps returns only once every program that may have seen the value before has
/// ended (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c, since 4.20), whichever maps it uses. That holds
/// with one CPU and PREEMPT_RT, too, where a program may be preempted by whoever waits for it, and
/// `membarrier(2)` waits for nobody; nor is this refused on kernels with nohz_full CPUs.
#[derive(Debug)]
pub struct GracePeriod {
    outer: MapHandle,
    inner: MapHandle,
}

impl GracePeriod {
    /// Has all that waiting needs, so that what can fail does so before anything is changed.
    pub fn prepare() -> Result<Self> {
        let mut options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            ..Default::default()
        };
        let inner = MapHandle::create(MapType::Array, Some("waits"), 4, 4, 1, &options)
            .context("cannot create a map to wait with")?;
        options.inner_map_fd = inner.as_fd().as_raw_fd() as u32;
        let outer = MapHandle::create(MapType::ArrayOfMaps, Some("waits"), 4, 4, 1, &options)
            .context("cannot create a map of maps to wait with")?;
        Ok(Self { outer, inner })
    }

    /// Returns when every program that was running has ended.
    pub fn wait(&self) -> Result<()> {
        let inner = self.inner.as_fd().as_raw_fd().to_ne_bytes();
        self.outer.update(&[0; 4], &inner, MapFlags::ANY).context("cannot wait for programs to end")
    }
}
