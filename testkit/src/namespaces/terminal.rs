//! A pseudo-terminal for the output of a program.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

/// The end from which a test reads what is shown, and the end to which a program writes.
pub fn pty() -> (File, File) {
    let shown = File::options().read(true).write(true).open("/dev/ptmx").expect("a terminal");
    let unlocked = 0;
    // SAFETY: both requests are for an open terminal; the first reads an integer, the second is
    // given flags and returns a descriptor
    let written = unsafe {
        assert_eq!(libc::ioctl(shown.as_raw_fd(), libc::TIOCSPTLCK, &unlocked), 0);
        let fd = libc::ioctl(shown.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        File::from_raw_fd(fd)
    };
    (shown, written)
}
