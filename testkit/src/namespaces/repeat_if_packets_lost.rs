//! Repeats what a flood in somebody else's namespace has spoilt.

use std::fs;
use std::panic::{self, AssertUnwindSafe};

const ATTEMPTS: usize = 5;

/// Runs `test`, and again where packets were lost meanwhile in the queues of the CPUs, which have room
/// for 1000 and are the whole machine's. The last attempt counts, whatever happened to it.
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

/// The packets that did not fit, since boot.
fn lost() -> u64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").expect("softnet_stat");
    // a line for each CPU: packets, lost packets, and more, in hexadecimal
    let lost = |line: &str| {
        let column = line.split_whitespace().nth(1).expect("a second column");
        u64::from_str_radix(column, 16).expect("a number")
    };
    text.lines().map(lost).sum()
}
