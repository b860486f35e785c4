//! Other BPF programs in a chain: a root like l3afd's tc-root, and a program that counts packets.
//!
//! Each consists of a few instructions, which are written out here, so that tests need no compiler.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, TC_EGRESS, TC_INGRESS, TcHookBuilder};
use traffic_mirroring::attach::clsact::{ClsactFilter, remove_qdisc};
use traffic_mirroring::model::Direction as Way;
use traffic_mirroring::netlink::Netlink;

use super::tcx::{self, Place};
use super::{Ns, has_tcx};

/// One instruction in the kernel's encoding (struct bpf_insn, little endian).
pub const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (off as u16 as u64) << 16
        | (imm as u32 as u64) << 32
}

/// The two instructions for `dst = map` (BPF_PSEUDO_MAP_FD).
fn load_map(dst: u8, map: &MapHandle) -> [u64; 2] {
    [insn(0x18, dst, 1, 0, map.as_fd().as_raw_fd()), 0]
}

/// A program like tc-root: it makes a tail call through key 0, and nothing else.
pub struct Root {
    pub map_path: PathBuf,
    map: MapHandle,
    program: OwnedFd,
    _attached: Attached,
}

impl Root {
    /// Attaches to `eth0` as l3afd does, and pins its map where tc-root has it.
    pub fn attach(ns: &Ns, direction: &str) -> Self {
        let map = array(MapType::ProgArray, 4);
        let mut program = vec![];
        program.extend(load_map(2, &map));
        program.extend([
            insn(0xb7, 3, 0, 0, 0),  // r3 = 0
            insn(0x85, 0, 0, 0, 12), // bpf_tail_call(ctx, map, 0)
            insn(0xb7, 0, 0, 0, 0),  // r0 = TC_ACT_OK
            insn(0x95, 0, 0, 0, 0),  // exit
        ]);
        let name = CString::new(format!("tc_{direction}_root")).expect("a name");
        let program = load(&name, &program);
        let attached = ns.run(|| Attached::new(program.as_fd(), direction));
        let dir = Path::new("/sys/fs/bpf/tc/globals/eth0/tc-root/latest");
        fs::create_dir_all(dir).expect("a directory for pins");
        let map_path = dir.join(format!("tc_{direction}_root_array"));
        pin(&map, &map_path);
        Self { map_path, map, program, _attached: attached }
    }

    /// Id of the program in the slot.
    pub fn slot(&self) -> Option<u32> {
        slot(&self.map)
    }

    /// Empties the slot, as l3afd does.
    pub fn clear(&self) {
        // it may be empty
        let _ = self.map.delete(&[0; 4]);
    }

    /// Id of the root itself.
    pub fn id(&self) -> u32 {
        libbpf_rs::Program::id_from_fd(self.program.as_fd()).expect("the program's id")
    }

    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Pins the array a second time.
    pub fn pin_map(&self, path: &str) {
        pin(&self.map, path.as_ref());
    }

    /// Makes the array read-only for user space.
    pub fn freeze(&self) {
        self.map.freeze().expect("a map to freeze");
    }

    /// Puts a program into the slot, as l3afd does.
    pub fn put(&self, program: BorrowedFd<'_>) {
        put(&self.map, program);
    }
}

/// A program attached to `eth0`, behind the programs that are there. With clsact, that depends on their priorities.
/// Dropping this detaches it. Drop it on a thread in the host's namespace, such as the test's own.
enum Attached {
    Tcx { _link: OwnedFd },
    Clsact { filter: ClsactFilter, program: OwnedFd },
}

impl Attached {
    fn new(program: BorrowedFd<'_>, direction: &str) -> Self {
        let ifindex = nix::net::if_::if_nametoindex("eth0").expect("eth0") as i32;
        let (point, direction) = match direction {
            "ingress" => (TC_INGRESS, Way::Ingress),
            _ => (TC_EGRESS, Way::Egress),
        };
        if has_tcx() {
            return Self::Tcx { _link: tcx::attach(program, direction, Place::Behind) };
        }
        let mut hook = TcHookBuilder::new(program).ifindex(ifindex).priority(7).hook(point);
        let hook = hook.create().and_then(|mut hook| hook.attach()).expect("a filter");
        let filter = ClsactFilter {
            ifindex: ifindex as u32,
            direction,
            handle: hook.get_handle(),
            priority: hook.get_priority(),
        };
        let program = program.try_clone_to_owned().expect("a second handle");
        Self::Clsact { filter, program }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let Self::Clsact { filter, program } = self else { return };
        // the interface may be gone by now, or others may use the qdisc
        let _ = filter.detach(program.as_fd(), |_| true);
        if let Ok(mut netlink) = Netlink::open() {
            let _ = remove_qdisc(program.as_fd(), filter.ifindex, &mut netlink);
        }
    }
}

/// Verdicts of tc programs (linux/pkt_cls.h): the packet passes at once, or the next program decides.
const TC_ACT_OK: i32 = 0;
const TC_ACT_UNSPEC: i32 = -1;

/// A program that counts the packets it sees.
pub struct Counter {
    counts: MapHandle,
    pub program: OwnedFd,
}

impl Counter {
    /// A program that lets packets pass, so that programs behind it do not see them.
    pub fn load() -> Self {
        Self::load_with(TC_ACT_OK)
    }

    /// A program that leaves the verdict to the programs behind it, as the program under test does.
    pub fn load_undecided() -> Self {
        Self::load_with(TC_ACT_UNSPEC)
    }

    /// A program that sends all packets out of another interface.
    pub fn load_redirecting(ifname: &str) -> Self {
        let ifindex = nix::net::if_::if_nametoindex(ifname).expect(ifname) as i32;
        Self::load_ending_with(&[
            insn(0xb7, 1, 0, 0, ifindex),
            insn(0xb7, 2, 0, 0, 0),
            insn(0x85, 0, 0, 0, 23), // bpf_redirect(ifindex, 0)
        ])
    }

    fn load_with(verdict: i32) -> Self {
        Self::load_ending_with(&[insn(0xb7, 0, 0, 0, verdict)])
    }

    /// A program that ends with these instructions. They leave the verdict in r0.
    fn load_ending_with(end: &[u64]) -> Self {
        let counts = array(MapType::Array, 8);
        let mut program = vec![
            insn(0x62, 10, 0, -4, 0), // key = 0
            insn(0xbf, 2, 10, 0, 0),
            insn(0x07, 2, 0, 0, -4), // r2 = &key
        ];
        program.extend(load_map(1, &counts));
        program.extend([
            insn(0x85, 0, 0, 0, 1), // bpf_map_lookup_elem(map, &key)
            insn(0x15, 0, 0, 2, 0), // no entry: skip the next two
            insn(0xb7, 1, 0, 0, 1),
            insn(0xdb, 0, 1, 0, 0), // lock *(u64 *)r0 += 1
        ]);
        program.extend(end);
        program.push(insn(0x95, 0, 0, 0, 0)); // exit
        let program = load(c"test", &program);
        Self { counts, program }
    }

    /// Chains the program behind the one whose jump table is pinned at `path`.
    pub fn follow(&self, path: &str) {
        let map = MapHandle::from_pinned_path(path).expect("the jump table");
        put(&map, self.program.as_fd());
    }

    /// Pins the map of the counts, which is not a PROG_ARRAY.
    pub fn pin_counts(&self, path: &str) {
        pin(&self.counts, path.as_ref());
    }

    pub fn count(&self) -> u64 {
        let value = self.counts.lookup(&[0; 4], MapFlags::ANY);
        let value = value.expect("the counter").expect("entry 0");
        u64::from_ne_bytes(value.try_into().expect("8 bytes"))
    }

    pub fn id(&self) -> u32 {
        libbpf_rs::Program::id_from_fd(self.program.as_fd()).expect("the program's id")
    }
}

fn pin(map: &MapHandle, path: &Path) {
    traffic_mirroring::bpf::pins::pin(map.as_fd(), path).expect("a pin");
}

fn slot(map: &MapHandle) -> Option<u32> {
    let id = map.lookup(&[0; 4], MapFlags::ANY).expect("the slot")?;
    Some(u32::from_ne_bytes(id.try_into().expect("4 bytes")))
}

fn put(map: &MapHandle, program: BorrowedFd<'_>) {
    let fd = program.as_raw_fd().to_ne_bytes();
    map.update(&[0; 4], &fd, MapFlags::ANY).expect("the slot");
}

fn array(kind: MapType, value_size: u32) -> MapHandle {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
        ..Default::default()
    };
    MapHandle::create(kind, Some("test"), 4, value_size, 1, &options).expect("a map")
}

/// Loads a program of these instructions.
pub fn load(name: &CStr, program: &[u64]) -> OwnedFd {
    // SAFETY: as many instructions as it says, strings that end in 0, and null for options
    owned(unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            name.as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr().cast(),
            program.len() as _,
            std::ptr::null_mut(),
        )
    })
}

pub fn owned(fd: i32) -> OwnedFd {
    assert!(fd >= 0, "{}", std::io::Error::from_raw_os_error(-fd));
    // SAFETY: just opened, for nobody else
    unsafe { OwnedFd::from_raw_fd(fd) }
}
