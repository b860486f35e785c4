//! What tests have to know of the kernel that they run on.

/// TCX came with Linux 6.6. Before, programs are attached by clsact filters.
pub fn has_tcx() -> bool {
    version() >= (6, 6)
}

/// Before Linux 5.11, BPF maps count as locked memory.
pub fn has_limited_maps() -> bool {
    version() < (5, 11)
}

fn version() -> (u32, u32) {
    let release = traffic_mirroring::bpf::features::kernel_release();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().expect(&release));
    (numbers.next().expect("a version"), numbers.next().expect("a second number"))
}
