//! The CPUs that tests may run on.

use nix::sched::sched_getaffinity;
use nix::unistd::Pid;

pub fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("our CPUs");
    (0..1024).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect()
}
