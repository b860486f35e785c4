//! l3afd, if it launched us. It either waits for us to exit or expects us to stay, and hardly says what it has done
//! before. The programs and maps that it holds or has pinned tell more.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use libbpf_rs::{MapCore, MapHandle};
use nix::unistd::getppid;

use crate::attach::tcx;
use crate::bpf::map_defs;
use crate::bpf::pins::{self, Pins};
use crate::model::Direction;
use crate::netlink::Netlink;

/// Prefix of the name of its binary.
const NAME: &[u8] = b"l3afd";

/// Where it waits for its successor when it restarts (`HostSock` in its models).
const RESTART_SOCKET: &str = "/tmp/l3afd.sock";

/// The l3afd that is our parent process.
pub struct L3afd {
    pid: i32,
    /// ids of the programs and of the maps that it holds
    programs: HashSet<u32>,
    maps: HashSet<u32>,
}

impl L3afd {
    /// `None` where our parent is another program, such as a shell.
    pub fn that_launched_us() -> Option<Self> {
        let pid = getppid().as_raw();
        let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
        if !name.starts_with(NAME) {
            return None;
        }
        let mut l3afd = Self { pid, programs: HashSet::new(), maps: HashSet::new() };
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            l3afd.programs.extend(id_in(&text, "prog_id:"));
            l3afd.maps.extend(id_in(&text, "map_id:"));
        }
        Some(l3afd)
    }

    /// Whether it is restarting: then it ends our process and later starts another one, which resumes.
    pub fn is_restarting(&self) -> bool {
        let sockets = fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
        let links = fs::read_dir(format!("/proc/{}/fd", self.pid)).into_iter().flatten().flatten();
        let held: HashSet<_> = links.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        sockets.lines().filter_map(listening).any(|(inode, path)| {
            path == RESTART_SOCKET && held.contains(Path::new(&format!("socket:[{inode}]")))
        })
    }

    /// Fails where l3afd has loaded a program, but its maps are not where we look for them. Otherwise we would load a
    /// program of our own and stay, while l3afd waits for us to fill in the maps and exit.
    pub fn ensure_it_wants_us_to_load(
        &self,
        pins: &Pins,
        ifindex: u32,
        netlink: &mut Netlink,
    ) -> Result<()> {
        let (id, dir) = (&pins.id, pins.maps_dir());
        let dir = dir.display();
        // l3afd gives packets of the interface to one program at most: to ours, or to the first one of a chain (the
        // others are told by --map-name)
        if !self.holds_one_on(ifindex, id.direction, netlink)? {
            return Ok(());
        }
        for at in self.jump_tables(id.direction) {
            let Some(place) = pins::Place::of(&at).filter(|it| it.interface == id.interface) else {
                continue;
            };
            let at = at.display();
            match place.package {
                Some((package, _)) if package != pins::PACKAGE => bail!(
                    "l3afd has loaded a program for {id}, but its maps are in {at}: the payload's name \
                     is \"{package}\", and has to be \"{}\"",
                    pins::PACKAGE
                ),
                // of another start
                Some((_, version)) if version != id.version.as_str() => {}
                _ if pins.is_below(&place.root) => {}
                _ => bail!(
                    "l3afd has loaded a program for {id}, but its maps are not in {dir}: they are in {at}, \
                     since l3afd's BpfMapDefaultPath is {root}; add \"bpffs\": \"{root}\" to start_args, \
                     and to the other args of the payload",
                    root = place.root.display()
                ),
            }
        }
        bail!(
            "l3afd has loaded a program for {id}, but our maps are not in {dir}: object_file and artifact of the \
             payload have to be of this package and version, and l3afd's BpfMapDefaultPath has to be what \
             --bpffs says"
        )
    }

    /// Directories with pinned jump tables of our package that l3afd holds.
    fn jump_tables(&self, direction: Direction) -> Vec<PathBuf> {
        let name = map_defs::JMP_TABLE.name(direction);
        let mut dirs = Vec::new();
        for root in mounts_of_bpf(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()) {
            visit(&root, &mut |dir| {
                let map = MapHandle::from_pinned_path(dir.join(&name)).and_then(|map| map.info());
                if map.is_ok_and(|map| self.maps.contains(&map.info.id)) {
                    dirs.push(dir.to_owned());
                }
            });
        }
        dirs
    }

    /// Whether it holds a program that is attached to the interface.
    fn holds_one_on(
        &self,
        ifindex: u32,
        direction: Direction,
        netlink: &mut Netlink,
    ) -> Result<bool> {
        let filters = netlink.filters(ifindex, direction)?.into_iter();
        let mut attached = tcx::programs(ifindex, direction)
            .into_iter()
            .chain(filters.filter_map(|filter| filter.program));
        Ok(attached.any(|id| self.programs.contains(&id)))
    }
}

/// The id that follows the label in a line of its own (`bpf_prog_show_fdinfo`, `bpf_map_show_fdinfo` in the kernel's
/// bpf/syscall.c).
fn id_in(fdinfo: &str, label: &str) -> Option<u32> {
    fdinfo.lines().find_map(|line| line.strip_prefix(label)?.trim().parse().ok())
}

/// Inode and path of a socket that waits for connections, in a line of /proc/net/unix (proc_net(5)).
fn listening(line: &str) -> Option<(&str, &str)> {
    // linux/net.h
    const ACCEPTS: u32 = 1 << 16;
    let fields: Vec<_> = line.split_whitespace().collect();
    let [_, _, _, flags, _, _, inode, path] = fields[..] else { return None };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    (flags & ACCEPTS != 0).then_some((inode, path))
}

/// Where BPF file systems are mounted, by /proc/self/mountinfo (proc_pid_mountinfo(5)).
fn mounts_of_bpf(mountinfo: &str) -> Vec<PathBuf> {
    let of_line = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        file_system.starts_with("bpf ").then(|| PathBuf::from(point.replace("\\040", " ")))
    };
    mountinfo.lines().filter_map(of_line).collect()
}

/// Calls `look` for a directory and all directories below it.
fn visit(dir: &Path, look: &mut impl FnMut(&Path)) {
    look(dir);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), look);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_what_the_kernel_tells_of_a_descriptor() {
        let program = "pos:\t0\nflags:\t02000002\nprog_type:\t3\nprog_id:\t131\nrun_cnt:\t0\n";
        assert_eq!(id_in(program, "prog_id:"), Some(131));
        assert_eq!(id_in(program, "map_id:"), None);
    }

    #[test]
    fn only_sockets_that_wait_for_connections_count() {
        let head = "Num       RefCount Protocol Flags    Type St Inode Path";
        let waits = "0000000000000000: 00000002 00000000 00010000 0001 01 24511 /tmp/l3afd.sock";
        let connected =
            "0000000000000000: 00000003 00000000 00000000 0001 03 24512 /tmp/l3afd.sock";
        let unnamed = "0000000000000000: 00000002 00000000 00010000 0001 01 24513";
        assert_eq!(listening(waits), Some(("24511", "/tmp/l3afd.sock")));
        for line in [head, connected, unnamed] {
            assert_eq!(listening(line), None);
        }
    }

    #[test]
    fn mounts_are_found_by_their_type() {
        let mountinfo = "\
            31 29 0:27 / /sys/fs/bpf rw,nosuid shared:9 - bpf bpf rw,mode=700\n\
            32 29 0:28 / /run/l3afd\\040maps rw - bpf bpffs rw\n\
            33 29 0:29 / /tmp rw - tmpfs bpf rw\n";
        let expected = ["/sys/fs/bpf", "/run/l3afd maps"].map(PathBuf::from);
        assert_eq!(mounts_of_bpf(mountinfo), expected);
    }
}
