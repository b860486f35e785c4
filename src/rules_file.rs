//! Reads the file of rules. The path may lead to anything, so only an ordinary file of limited size is read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::filter::file::MAX_BYTES;

/// All bytes of the file at `path`, at most [`MAX_BYTES`].
///
/// # Errors
/// The file is missing, cannot be read, is not an ordinary file, or is too large. The error names the path.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let cannot_read = || format!("cannot read {path:?}");
    let file = File::options()
        .read(true)
        // without this, opening a named pipe would wait for a writer
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .with_context(cannot_read)?;
    let metadata = file.metadata().with_context(cannot_read)?;
    ensure!(metadata.is_file(), "{path:?} is not an ordinary file");
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).with_context(cannot_read)?;
    ensure!(
        bytes.len() <= MAX_BYTES,
        "{path:?} is larger than {MAX_BYTES} bytes, the most there may be"
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn error(path: &Path) -> String {
        format!("{:#}", read(path).unwrap_err())
    }

    #[test]
    fn files_are_read_up_to_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules");
        fs::write(&path, vec![b' '; MAX_BYTES]).unwrap();
        assert_eq!(read(&path).unwrap().len(), MAX_BYTES);
        fs::write(&path, vec![b' '; MAX_BYTES + 1]).unwrap();
        assert!(error(&path).contains("is larger than 16777216 bytes"));
    }

    #[test]
    fn what_is_no_file_is_named_and_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules");
        assert_eq!(
            error(&path),
            format!("cannot read {path:?}: No such file or directory (os error 2)")
        );
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&path, folder.path(), Path::new("/dev/zero")] {
            assert_eq!(error(path), format!("{path:?} is not an ordinary file"));
        }
    }
}
