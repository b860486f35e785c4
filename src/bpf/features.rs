//! What the programs need from the kernel. When the kernel refuses them, this tells what is missing.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use libbpf_rs::{ErrorKind, MapHandle, MapType, ProgramType};
use libbpf_sys as sys;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// What the objects use, and the version of Linux that introduced it: types of maps, with their flags, …
const MAPS: [(MapType, u32, &str); 6] = [
    (MapType::Array, 0, "ARRAY maps (3.19)"),
    (MapType::Array, sys::BPF_F_MMAPABLE, "array maps that can be mapped into memory (5.5)"),
    (MapType::ProgArray, 0, "PROG_ARRAY maps (4.2)"),
    (MapType::PercpuArray, 0, "PERCPU_ARRAY maps (4.6)"),
    (MapType::LruHash, 0, "LRU_HASH maps (4.10)"),
    (MapType::LpmTrie, sys::BPF_F_NO_PREALLOC, "LPM_TRIE maps (4.11)"),
];

/// … and helpers.
const HELPERS: [(sys::bpf_func_id, &str); 21] = [
    (sys::BPF_FUNC_map_lookup_elem, "bpf_map_lookup_elem (3.19)"),
    (sys::BPF_FUNC_map_update_elem, "bpf_map_update_elem (3.19)"),
    (sys::BPF_FUNC_ktime_get_ns, "bpf_ktime_get_ns (4.1)"),
    (sys::BPF_FUNC_get_prandom_u32, "bpf_get_prandom_u32 (4.1)"),
    (sys::BPF_FUNC_get_smp_processor_id, "bpf_get_smp_processor_id (4.1)"),
    (sys::BPF_FUNC_skb_store_bytes, "bpf_skb_store_bytes (4.1)"),
    (sys::BPF_FUNC_tail_call, "bpf_tail_call (4.2)"),
    (sys::BPF_FUNC_clone_redirect, "bpf_clone_redirect (4.2)"),
    (sys::BPF_FUNC_skb_vlan_pop, "bpf_skb_vlan_pop (4.3)"),
    (sys::BPF_FUNC_redirect, "bpf_redirect (4.4)"),
    (sys::BPF_FUNC_skb_load_bytes, "bpf_skb_load_bytes (4.5)"),
    (sys::BPF_FUNC_csum_diff, "bpf_csum_diff (4.6)"),
    (sys::BPF_FUNC_skb_change_proto, "bpf_skb_change_proto (4.8)"),
    (sys::BPF_FUNC_skb_change_type, "bpf_skb_change_type (4.8)"),
    (sys::BPF_FUNC_skb_change_tail, "bpf_skb_change_tail (4.9)"),
    (sys::BPF_FUNC_skb_pull_data, "bpf_skb_pull_data (4.9)"),
    (sys::BPF_FUNC_skb_adjust_room, "bpf_skb_adjust_room (4.13)"),
    (sys::BPF_FUNC_fib_lookup, "bpf_fib_lookup (4.18)"),
    (sys::BPF_FUNC_spin_lock, "bpf_spin_lock (5.1)"),
    (sys::BPF_FUNC_spin_unlock, "bpf_spin_unlock (5.1)"),
    (sys::BPF_FUNC_redirect_neigh, "bpf_redirect_neigh (5.10)"),
];

/// Why the kernel refused an object and what to do about it, as far as it can be found out.
pub fn reason(refusal: &libbpf_rs::Error) -> Option<String> {
    if refusal.to_string() == io::Error::from_raw_os_error(libc::EPERM).to_string() {
        return locked_memory();
    }
    let missing = missing();
    (!missing.is_empty()).then(|| {
        format!(
            "this kernel ({}) lacks {}; Linux 5.10 has them all",
            kernel_release(),
            missing.join(", ")
        )
    })
}

/// The limit of locked memory, if it can be the reason for EPERM. (libbpf has already raised it where it may.)
fn locked_memory() -> Option<String> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    (limit != RLIM_INFINITY && is_before_5_11(&kernel_release())).then(|| {
        format!(
            "before Linux 5.11 BPF maps count as locked memory, of which this process may have \
             {} KiB (RLIMIT_MEMLOCK): allow it more (`ulimit -l unlimited`, or in a systemd unit \
             LimitMEMLOCK=infinity), or give it CAP_SYS_RESOURCE",
            limit / 1024
        )
    })
}

fn is_before_5_11(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (5, 11),
        _ => false,
    }
}

/// As `uname -r` prints it.
pub fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_string()
}

/// What the kernel lacks.
fn missing() -> Vec<&'static str> {
    let maps = MAPS.iter().map(|(kind, flags, name)| (has_map(*kind, *flags), *name));
    let btf = [(has_btf(), "BTF (4.18)")];
    let helpers = HELPERS.iter().map(|(id, name)| (has_helper(*id), *name));
    maps.chain(btf).chain(helpers).filter(|(there, _)| !there).map(|(_, name)| name).collect()
}

// These return false only where the kernel says that it has no such thing. A probe that fails for another reason,
// such as a missing privilege, proves nothing.

fn has_helper(id: sys::bpf_func_id) -> bool {
    ProgramType::SchedCls.is_helper_supported(id).unwrap_or(true)
}

fn has_map(kind: MapType, flags: u32) -> bool {
    let options = sys::bpf_map_create_opts {
        sz: size_of::<sys::bpf_map_create_opts>() as _,
        map_flags: flags,
        ..Default::default()
    };
    // the key of a trie begins with the length of the prefix
    let key_size = if kind == MapType::LpmTrie { 8 } else { 4 };
    // not libbpf's `is_supported`: it knows no flags, and takes any failure for a no
    let probe = MapHandle::create(kind, None::<&str>, key_size, 4, 1, &options);
    probe.map_or_else(|error| error.kind() != ErrorKind::InvalidInput, |_| true)
}

/// Whether maps can have BTF, by which the verifier finds a `bpf_spin_lock`.
fn has_btf() -> bool {
    // linux/btf.h: a header, `int` as the only type, and the names
    const NAMES: &[u8] = b"\0int\0";
    let sections = [24, 0, 16, 16, NAMES.len() as u32];
    let int: [u32; 4] = [1, sys::BTF_KIND_INT << 24, 4, sys::BTF_INT_SIGNED << 24 | 32];
    let mut btf = [0xeb9f_u16.to_ne_bytes(), [1, 0]].concat();
    btf.extend(sections.into_iter().chain(int).flat_map(u32::to_ne_bytes));
    btf.extend(NAMES);
    // SAFETY: as many bytes as it says, and null for options that there are none of
    let fd =
        unsafe { sys::bpf_btf_load(btf.as_ptr().cast(), btf.len() as _, std::ptr::null_mut()) };
    if fd >= 0 {
        // SAFETY: just opened, and nobody else's
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    fd != -libc::EINVAL
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use libbpf_rs::ObjectBuilder;

    use super::*;
    use crate::bpf::{gue_tunnel_bytes, object_bytes};
    use crate::model::Direction;

    #[test]
    fn needs_root_a_kernel_that_runs_the_programs_lacks_nothing() {
        assert_eq!(missing(), [""; 0]);
    }

    #[test]
    fn needs_root_a_probe_tells_what_the_kernel_has_not() {
        let of_another_time = 1_000_000;
        assert!(!has_helper(of_another_time));
        assert!(!has_map(MapType::Array, 1 << 31));
    }

    #[test]
    fn all_that_the_objects_use_is_on_the_lists_and_nothing_else() {
        let (mut maps, mut helpers) = (BTreeSet::new(), BTreeSet::new());
        let objects = Direction::ALL.map(object_bytes).into_iter().chain([gue_tunnel_bytes()]);
        for bytes in objects {
            let object = ObjectBuilder::default().open_memory(bytes).unwrap();
            maps.extend(object.maps().map(|map| (map.map_type() as u32, map.map_flags())));
            let instructions = object.progs().flat_map(|program| program.insns().to_vec());
            for call in instructions.filter(|it| u32::from(it.code) == sys::BPF_JMP | sys::BPF_CALL)
            {
                // a call of a function would have its instructions elsewhere
                assert_eq!(call.src_reg(), 0, "a call of something else than a helper");
                helpers.insert(call.imm as u32);
            }
        }
        let listed = MAPS.iter().map(|(kind, flags, _)| (*kind as u32, *flags));
        assert_eq!(maps, listed.collect());
        assert_eq!(helpers, HELPERS.iter().map(|(id, _)| *id).collect());
    }

    #[test]
    fn the_limit_of_locked_memory_counts_before_5_11() {
        for (release, expected) in [
            ("4.18.0-553.el8_10.x86_64", true),
            ("5.10.0-32-cloud-amd64", true),
            ("5.11-rc1", false),
            ("5.15.0", false),
            ("7.3.4+deb13-cloud-amd64", false),
            ("", false),
        ] {
            assert_eq!(is_before_5_11(release), expected, "{release}");
        }
    }
}
