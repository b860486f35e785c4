//! Properties of the kernel that tests have to know.

/// Whether the kernel has TCX (since Linux 6.6). Without it, programs are attached by clsact filters.
pub fn has_tcx() -> bool {
    version() >= (6, 6)
}

/// Whether BPF maps count as locked memory (before Linux 5.11).
pub fn has_limited_maps() -> bool {
    version() < (5, 11)
}

fn version() -> (u32, u32) {
    let release = traffic_mirroring::bpf::features::kernel_release();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().expect(&release));
    (numbers.next().expect("a version"), numbers.next().expect("a second number"))
}
