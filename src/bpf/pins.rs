//! Every path in the BPF file system, in one place: l3afd's layout.

use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;

use crate::model::{Direction, InstanceId, InterfaceName, Version};

const PACKAGE: &str = "traffic-mirroring";

/// The pins of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    bpffs: PathBuf,
    pub id: InstanceId,
}

impl Pins {
    pub fn new(bpffs: &Path, id: &InstanceId) -> Self {
        Self { bpffs: bpffs.to_path_buf(), id: id.clone() }
    }

    /// `<bpffs>/<kind>/<interface>/traffic-mirroring/<version>`
    fn dir(&self, kind: &str) -> PathBuf {
        self.bpffs
            .join(kind)
            .join(dir_of(&self.id.interface))
            .join(PACKAGE)
            .join(self.id.version.as_str())
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.dir("tc/globals").join(name)
    }

    pub fn program(&self) -> PathBuf {
        self.dir("progs").join(format!("{}_tc", program_name(self.id.direction)))
    }

    pub fn link(&self) -> PathBuf {
        self.dir("links").join(format!("{PACKAGE}_tc_{}", self.id.direction))
    }

    /// Whether there are any: the first of [`map_names`] is what tells, in every version.
    pub fn exist(&self) -> bool {
        self.map(&map_name(self.id.direction, "config")).exists()
    }

    /// Removes all pins of the instance, and the directories that are empty then.
    pub fn remove(&self) -> Result<()> {
        remove(&self.link())?;
        remove(&self.program())?;
        // cut short from here on, this is known for remains
        remove(&self.map(&jmp_table(self.id.direction)))?;
        // the one that tells of the others goes last: cut short, this is still found
        let config = map_name(self.id.direction, "config");
        self.remove_maps_but(&[&config])?;
        remove(&self.map(&config))?;
        for kind in ["links", "progs", "tc/globals"] {
            self.remove_empty_dirs(&self.dir(kind));
        }
        Ok(())
    }

    /// Removes the pins of all other maps of the direction, the jump table apart: also of those that
    /// only another version has.
    pub fn remove_maps_but(&self, kept: &[impl AsRef<str>]) -> Result<()> {
        let of_direction = map_name(self.id.direction, "");
        for entry in fs::read_dir(self.dir("tc/globals")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&of_direction) && !kept.iter().any(|kept| kept.as_ref() == name) {
                unlink(&entry.path())?;
            }
        }
        Ok(())
    }

    fn remove_empty_dirs(&self, dir: &Path) {
        let below_root = |dir: &&Path| *dir != self.bpffs;
        for dir in dir.ancestors().take_while(below_root) {
            // one that is missing is no reason to leave those above it; one in use is
            match fs::remove_dir(dir) {
                Err(error) if error.kind() != ErrorKind::NotFound => return,
                _ => {}
            }
        }
    }

    /// Every instance that has maps pinned below `bpffs`, whoever loaded it.
    pub fn all(bpffs: &Path) -> Vec<Self> {
        let mut all = Vec::new();
        for (interface, dir) in children(&bpffs.join("tc/globals")) {
            let Some(interface) = interface_of(&interface) else {
                continue;
            };
            for (version, _) in children(&dir.join(PACKAGE)) {
                let Ok(version) = version.parse::<Version>() else {
                    continue;
                };
                for direction in Direction::ALL {
                    let id = InstanceId {
                        interface: interface.clone(),
                        direction,
                        version: version.clone(),
                    };
                    let pins = Self::new(bpffs, &id);
                    if pins.exist() {
                        all.push(pins);
                    }
                }
            }
        }
        all.sort_by_key(|pins| pins.id.to_string());
        all
    }
}

/// An interface's directory. The BPF file system refuses dots in names (`bpf_lookup` in
/// kernel/bpf/inode.c), which VLAN interfaces have; no interface name holds a `%`.
fn dir_of(interface: &InterfaceName) -> String {
    interface.as_str().replace('.', "%2e")
}

fn interface_of(dir: &str) -> Option<InterfaceName> {
    dir.replace("%2e", ".").parse().ok()
}

/// `<direction>_<name>`: both directions' maps are pinned into one directory.
pub fn map_name(direction: Direction, name: &str) -> String {
    format!("{direction}_{name}")
}

/// The map that holds the next program of the chain.
pub fn jmp_table(direction: Direction) -> String {
    format!("mirroring_{direction}_jmp_table")
}

pub fn program_name(direction: Direction) -> String {
    format!("_{direction}_redirect")
}

/// The names of all maps of a direction's object (`bpf/mirroring_maps.bpf.h`), in the order in
/// which they are pinned. In every version the config is the first, and the jump table the last.
pub fn map_names(direction: Direction) -> Vec<String> {
    const NAMES: [&str; 26] = [
        "config",
        "tunnel",
        "instance",
        "endpoints",
        "rule",
        "protocol",
        "src_port",
        "dst_port",
        "dscp",
        "vlan",
        "length",
        "tcp_flags",
        "icmp_type",
        "src_net",
        "dst_net",
        "src_net6",
        "dst_net6",
        "src_prefix",
        "dst_prefix",
        "src_prefix6",
        "dst_prefix6",
        "datagram",
        "outcomes",
        "metrics",
        "credit",
        "bucket",
    ];
    let mut names: Vec<String> = NAMES.map(|name| map_name(direction, name)).into();
    names.push(jmp_table(direction));
    names
}

/// Pins a map, program or link at `path`, in place of a pin that is there, at one instant: whoever
/// looks finds the one or the other.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let dir = path.parent().context("a pin has a directory")?;
    fs::create_dir_all(dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))?;
    let new = unfinished(path);
    unlink(&new)?;
    let c_path = CString::new(new.as_os_str().as_bytes())?;
    // SAFETY: an open descriptor and a string that ends in 0
    let result = unsafe { libbpf_sys::bpf_obj_pin(object.as_raw_fd(), c_path.as_ptr()) };
    let cannot = || format!("cannot pin {}", path.display());
    match result {
        0 => fs::rename(&new, path).with_context(cannot),
        error => Err(Errno::from_raw(-error)).with_context(cannot),
    }
}

/// Where a pin is until it takes its place: all that a SIGKILL leaves of it.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-new");
    name.into()
}

/// Removes a pin, be it unfinished; one that is gone already is no error.
pub fn remove(path: &Path) -> Result<()> {
    unlink(&unfinished(path))?;
    unlink(path)
}

fn unlink(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the pin {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The directories in `dir`, with their names.
fn children(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect()
}
