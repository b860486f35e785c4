//! What the kernel complains about while a test runs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// What a packet that is not as it should be makes the kernel say. The log is the machine's: it tells
/// of what other tests do, too, and the slowness of an emulated machine is no news.
const COMPLAINTS: [&str; 9] = [
    "Dead loop",    // a device that sends to itself
    "queue packet", // the same, seen elsewhere
    "is buggy",     // headers that are not where they should be
    "skb",
    "caps=(", // a super-packet that nobody can cut
    "net/",   // where a warning comes from
    "refcount",
    "BUG: kernel",
    "BUG: unable",
];

pub struct KernelLog(File);

impl KernelLog {
    /// From now on.
    pub fn watch() -> Self {
        let mut log = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .expect("/dev/kmsg");
        log.seek(SeekFrom::End(0)).expect("the end of the log");
        Self(log)
    }

    pub fn complaints(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(len) => {
                    let line = String::from_utf8_lossy(&record[..len]).into_owned();
                    if COMPLAINTS.iter().any(|complaint| line.contains(complaint)) {
                        complaints.push(line);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return complaints,
                // records that are gone already: go on with the oldest one that is there
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => panic!("/dev/kmsg: {error}"),
            }
        }
    }
}
