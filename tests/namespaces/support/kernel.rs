//! What tests have to know of the kernel that they run on.

/// TCX came with Linux 6.6. Before, programs are attached by clsact filters.
pub fn has_tcx() -> bool {
    version() >= (6, 6)
}

fn version() -> (u32, u32) {
    let release = traffic_mirroring::bpf::bpffs::kernel_release();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().expect(&release));
    (numbers.next().expect("a version"), numbers.next().expect("a second number"))
}
