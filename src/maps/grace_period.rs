//! A grace period: waiting until every BPF program that is running now has ended.

use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

/// An update of a map of maps returns only after every program has ended that may have seen the old value
/// (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c, since 4.20). It waits for all programs, whichever maps they use.
///
/// Not `membarrier(2)`: with one CPU and PREEMPT_RT it does not wait for a program that was preempted, and with nohz_full
/// CPUs the kernel refuses it.
#[derive(Debug)]
pub struct GracePeriod {
    outer: MapHandle,
    inner: MapHandle,
}

impl GracePeriod {
    /// Creates what the wait needs. Call it before changing anything: this is the part that can fail.
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
