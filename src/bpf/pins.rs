//! The only place that knows paths in the BPF file system. The layout is l3afd's. l3afd 2.0 and 2.1 have no
//! directories for packages and versions: the pins of all packages on an interface share one directory.

use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;

use crate::bpf::map_defs;
use crate::model::{Direction, InstanceId, InterfaceName, Version};

/// Name of the package in payloads, and in paths.
pub const PACKAGE: &str = "traffic-mirroring";

const MAPS: &str = "tc/globals";
const PROGRAMS: &str = "progs";
const LINKS: &str = "links";

/// Suffix of a pin until it is renamed to its final name.
const UNFINISHED: &str = "-new";

/// The pins of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    bpffs: PathBuf,
    /// The instance. Its version is [`Version::UNNAMED`] where the directories have none.
    pub id: InstanceId,
}

impl Pins {
    /// The pins of exactly this instance, whether they exist or not. [`find`](Self::find) also tries the default
    /// version.
    pub fn new(bpffs: &Path, id: &InstanceId) -> Self {
        Self { bpffs: bpffs.to_path_buf(), id: id.clone() }
    }

    /// The pins of the instance that an id means. An id without a version means the instance that l3afd 2.0 or 2.1
    /// has loaded, which has none, and otherwise the default version.
    pub fn find(bpffs: &Path, id: &InstanceId) -> Self {
        let pins = Self::new(bpffs, id);
        if pins.exist() { pins } else { pins.with_a_version() }
    }

    /// The pins of an instance that is started behind the program whose jump table is pinned at `slot`. If the id has
    /// no version, the directory of `slot` tells which layout is in use.
    pub fn in_chain(bpffs: &Path, id: &InstanceId, slot: &Path) -> Self {
        let pins = Self::new(bpffs, id);
        if slot.parent() == Some(&pins.maps_dir()) { pins } else { pins.with_a_version() }
    }

    fn with_a_version(mut self) -> Self {
        if self.id.version.name().is_none() {
            self.id.version = Version::default();
        }
        self
    }

    /// `<bpffs>/<kind>/<interface>/traffic-mirroring/<version>`; without a version, that of the interface
    fn dir(&self, kind: &str) -> PathBuf {
        let of_interface = self.bpffs.join(kind).join(dir_of(&self.id.interface));
        match self.id.version.name() {
            Some(version) => of_interface.join(PACKAGE).join(version),
            None => of_interface,
        }
    }

    /// The directory of the maps. Without a version, other packages' maps are in it, too.
    pub fn maps_dir(&self) -> PathBuf {
        self.dir(MAPS)
    }

    /// Path of a map's pin. `name` is one of [`map_names`].
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps_dir().join(name)
    }

    /// Path of the program's pin. l3afd 2.0 pins no program, so there may be none.
    pub fn program(&self) -> PathBuf {
        self.dir(PROGRAMS).join(format!("{}_tc", program_name(self.id.direction)))
    }

    /// Path of the TCX link's pin. It exists only where this program attached itself, by TCX.
    pub fn link(&self) -> PathBuf {
        self.dir(LINKS).join(format!("{PACKAGE}_tc_{}", self.id.direction))
    }

    /// Whether the instance has pins. In every version the first of [`map_names`] tells.
    pub fn exist(&self) -> bool {
        self.map(&map_defs::CONFIG.name(self.id.direction)).exists()
    }

    /// Removes all pins of the instance, and the directories that are empty then.
    pub fn remove(&self) -> Result<()> {
        remove(&self.link())?;
        remove(&self.program())?;
        // if interrupted from here on, what is left is recognized as incomplete
        remove(&self.map(&map_defs::JMP_TABLE.name(self.id.direction)))?;
        // the config goes last: by it an interrupted removal is found again
        let config = map_defs::CONFIG.name(self.id.direction);
        self.remove_maps_but(&[&config])?;
        remove(&self.map(&config))?;
        for kind in [LINKS, PROGRAMS, MAPS] {
            self.remove_empty_dirs(&self.dir(kind));
        }
        Ok(())
    }

    /// Removes the pins of all maps of this direction, except `kept` and the jump table. Where no other package can
    /// have pins, that includes maps which only another version has.
    pub fn remove_maps_but(&self, kept: &[impl AsRef<str>]) -> Result<()> {
        let of_direction = format!("{}_", self.id.direction);
        let known = map_names(self.id.direction);
        let is_ours = |name: &str| match self.id.version.name() {
            Some(_) => name.starts_with(&of_direction),
            None => {
                known.iter().any(|known| name.strip_suffix(UNFINISHED).unwrap_or(name) == known)
            }
        };
        for entry in fs::read_dir(self.maps_dir()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if is_ours(&name) && !kept.iter().any(|kept| kept.as_ref() == name) {
                unlink(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether `root` is the BPF file system of these pins.
    pub fn is_below(&self, root: &Path) -> bool {
        self.bpffs.canonicalize().is_ok_and(|bpffs| bpffs == root)
    }

    fn remove_empty_dirs(&self, dir: &Path) {
        let below_root = |dir: &&Path| *dir != self.bpffs;
        for dir in dir.ancestors().take_while(below_root) {
            // a missing directory is no reason to leave those above it; one that is in use is
            match fs::remove_dir(dir) {
                Err(error) if error.kind() != ErrorKind::NotFound => return,
                _ => {}
            }
        }
    }

    /// The pins of every instance, whoever loaded it, sorted by name.
    pub fn all(bpffs: &Path) -> Vec<Self> {
        let mut all = Vec::new();
        for (interface, dir) in children(&bpffs.join(MAPS)) {
            let Some(interface) = interface_of(&interface) else {
                continue;
            };
            let versions = children(&dir.join(PACKAGE)).into_iter();
            let versions = versions.filter_map(|(version, _)| version.parse().ok());
            for version in versions.chain([Version::UNNAMED]) {
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

/// The directory of an interface. The BPF file system refuses names with a dot (`bpf_lookup` in kernel/bpf/inode.c),
/// which VLAN interfaces have. No interface name contains a `%`.
fn dir_of(interface: &InterfaceName) -> String {
    interface.as_str().replace('.', "%2e")
}

fn interface_of(dir: &str) -> Option<InterfaceName> {
    dir.replace("%2e", ".").parse().ok()
}

/// The name of a direction's program in its object: the `entry_function_name` that l3afd gets in the manifest.
pub fn program_name(direction: Direction) -> String {
    format!("_{direction}_redirect")
}

/// What the path of a directory of maps says.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The root of the BPF file system, or what l3afd takes for it.
    pub root: PathBuf,
    /// The interface, with the dots that its directory cannot have.
    pub interface: InterfaceName,
    /// The package and its version; `None` for a directory that all packages share.
    pub package: Option<(String, String)>,
}

impl Place {
    /// Takes the path of a directory of maps apart. `None` where it has not l3afd's layout.
    pub fn of(dir: &Path) -> Option<Self> {
        let (root, rest) = dir.to_str()?.split_once(&format!("/{MAPS}/"))?;
        let parts: Vec<&str> = rest.split('/').collect();
        let package = match parts[1..] {
            [] => None,
            [package, version] => Some((package.to_owned(), version.to_owned())),
            _ => return None,
        };
        Some(Self { root: root.into(), interface: interface_of(parts[0])?, package })
    }
}

/// The names of all maps of a direction's object (`bpf/mirroring_maps.bpf.h`), in the order in which they are pinned.
/// In every version the config comes first and the jump table last.
pub fn map_names(direction: Direction) -> Vec<String> {
    map_defs::ALL.iter().map(|map| map.name(direction)).collect()
}

/// Pins a map, program or link at `path`, replacing an older pin atomically.
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

/// The name that a pin has before it is renamed. A SIGKILL may leave it behind.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

/// Removes a pin, and one that was not renamed yet. A missing pin is no error.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(version: Version) -> Pins {
        let interface = "eth0.100".parse().unwrap();
        let id = InstanceId { interface, direction: Direction::Ingress, version };
        Pins::new(Path::new("/b"), &id)
    }

    #[test]
    fn pins_are_where_l3afd_has_them_of_each_release() {
        let main = pins("1.2".parse().unwrap());
        assert_eq!(
            main.map("ingress_config").to_str(),
            Some("/b/tc/globals/eth0%2e100/traffic-mirroring/1_2/ingress_config")
        );
        assert_eq!(
            main.program().to_str(),
            Some("/b/progs/eth0%2e100/traffic-mirroring/1_2/_ingress_redirect_tc")
        );
        let older = pins(Version::UNNAMED);
        let map = older.map("ingress_config");
        assert_eq!(map.to_str(), Some("/b/tc/globals/eth0%2e100/ingress_config"));
        assert_eq!(older.program().to_str(), Some("/b/progs/eth0%2e100/_ingress_redirect_tc"));
    }

    #[test]
    fn a_directory_tells_whose_maps_it_has() {
        for version in ["1.2".parse().unwrap(), Version::UNNAMED] {
            let pins = pins(version);
            let place = Place::of(&pins.maps_dir()).unwrap();
            assert_eq!((&place.root, &place.interface), (&pins.bpffs, &pins.id.interface));
            let package = pins.id.version.name().map(|it| (PACKAGE.to_owned(), it.to_owned()));
            assert_eq!(place.package, package);
        }
        for other in ["/b", "/b/tc/globals", "/b/tc/globals/eth0/tc-root", "/b/tc/globals/a/b/c/d"]
        {
            assert_eq!(Place::of(Path::new(other)), None, "{other}");
        }
    }
}
