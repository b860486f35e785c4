//! The BPF file system: mounting it, its lock, and the privileges that working with it takes.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, Statfs, statfs};

/// Capabilities that every command needs, with their bits (capability.h).
const CAPABILITIES: [(&str, u32); 2] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21)];

/// Fails where this process lacks a capability that every command needs.
pub fn check_privileges() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("is /proc mounted?")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .context("/proc/self/status does not tell our capabilities")?;
    let missing: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(_, bit)| effective & (1 << bit) == 0)
        .map(|(name, _)| *name)
        .collect();
    ensure!(
        missing.is_empty(),
        "missing privileges: {}; run it as root, or give it these capabilities",
        missing.join(" and ")
    );
    Ok(())
}

/// Whether this is a BPF file system, by its magic number (`BPF_FS_MAGIC` in linux/magic.h).
pub fn is_bpffs(fs: &Statfs) -> bool {
    fs.filesystem_type() == BPF_FS_MAGIC
}

fn is_mounted(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| is_bpffs(&fs))
}

/// Whether a BPF file system is mounted at `path`. Fails where there is no directory to mount one at.
pub fn check_bpffs(path: &Path) -> Result<bool> {
    if is_mounted(path) {
        return Ok(true);
    }
    ensure!(
        path.is_dir(),
        "--bpffs: there is no directory {} to mount the BPF file system at; \
         make it, or give the path where it is mounted",
        path.display()
    );
    Ok(false)
}

/// Mounts the BPF file system at `path` where none is. Returns whether it did.
pub fn mount_bpffs(path: &Path) -> Result<bool> {
    if check_bpffs(path)? {
        return Ok(false);
    }
    mount(
        Some("bpf"),
        path,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .with_context(|| format!("cannot mount the BPF file system at {}", path.display()))?;
    log::info!("mounted the BPF file system at {}", path.display());
    Ok(true)
}

/// Undoes `mount_bpffs`. It detaches the mount at once, and the file system goes when nobody, our own lock included,
/// has it open any more.
pub fn unmount_bpffs(path: &Path) -> Result<()> {
    umount2(path, MntFlags::MNT_DETACH)
        .with_context(|| format!("cannot unmount {}", path.display()))
}

/// Takes the lock, which a command holds while it changes anything. `None` where another command holds it.
pub fn try_lock(bpffs: &Path) -> Option<Flock<File>> {
    let lock = Flock::lock(File::open(bpffs).ok()?, FlockArg::LockExclusiveNonblock).ok()?;
    is_at(&lock, bpffs).then_some(lock)
}

/// Takes the lock, waiting for other commands to release it.
pub fn lock(bpffs: &Path) -> Result<Flock<File>> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let began = Instant::now();
    let open = || File::open(bpffs).with_context(|| format!("cannot open {}", bpffs.display()));
    let mut dir = open()?;
    loop {
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) if is_at(&lock, bpffs) => return Ok(lock),
            // the BPF file system has been mounted here since we opened the directory
            Ok(_) => dir = open()?,
            Err((back, nix::errno::Errno::EWOULDBLOCK)) if began.elapsed() < PATIENCE => {
                dir = back;
                thread::sleep(Duration::from_millis(5));
            }
            Err((_, error)) => bail!(
                "cannot lock {}: {error}; another mirroring command has held it for {} s \
                 (`fuser {0}` names it)",
                bpffs.display(),
                PATIENCE.as_secs()
            ),
        }
    }
}

/// Whether `path` still leads to this open file.
fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata()
        .is_ok_and(|open| fs::metadata(path).is_ok_and(|there| inode(open) == inode(there)))
}
