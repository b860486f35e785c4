//! Repeats a test if a flood of packets in another namespace made the kernel lose some.

use std::fs;
use std::panic::{self, AssertUnwindSafe};

const ATTEMPTS: usize = 5;

/// Runs `test`, and repeats it if the backlog queue of a CPU lost packets meanwhile. These queues hold 1000 packets
/// each (net.core.netdev_max_backlog), and all namespaces share them. The last attempt counts in any case.
pub fn undisturbed<T>(test: impl Fn() -> T) -> T {
    for _ in 1..ATTEMPTS {
        let before = lost();
        let result = panic::catch_unwind(AssertUnwindSafe(&test));
        match lost() - before {
            0 => return result.unwrap_or_else(|panic| panic::resume_unwind(panic)),
            lost => println!("once more: the queues of the CPUs lost {lost} packets"),
        }
    }
    test()
}

/// How many packets did not fit into these queues since boot.
fn lost() -> u64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").expect("softnet_stat");
    // each CPU has a line of hexadecimal numbers: packets, lost packets, and more
    let lost = |line: &str| {
        let column = line.split_whitespace().nth(1).expect("a second column");
        u64::from_str_radix(column, 16).expect("a number")
    };
    text.lines().map(lost).sum()
}
