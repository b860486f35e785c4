//! What the kernel complains about while a test runs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// Parts of the messages that the kernel logs about malformed packets. The log is the whole machine's and has messages
/// from other tests, too. Complaints about a slow emulated machine are not in this list.
const COMPLAINTS: [&str; 9] = [
    "Dead loop",    // a device that sends to itself
    "queue packet", // the same, in another place of the kernel
    "is buggy",     // wrong offsets of headers
    "skb",
    "caps=(", // a super-packet that cannot be segmented
    "net/",   // the source file of a warning
    "refcount",
    "BUG: kernel",
    "BUG: unable",
];

pub struct KernelLog(File);

impl KernelLog {
    /// Watches the log from now on.
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
                // records were overwritten: the next read returns the oldest that is left
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => panic!("/dev/kmsg: {error}"),
            }
        }
    }
}
