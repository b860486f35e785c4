//! All that `mirroring` could leave behind in a namespace, as lines of text that can be compared.

use std::collections::BTreeSet;
use std::ffi::{CString, c_int};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_sys::{BPF_TCX_EGRESS, BPF_TCX_INGRESS};
use nix::net::if_::if_nameindex;

use super::{Ns, tcx};

/// Links, addresses, routes, rules, qdiscs, filters, TCX programs and pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub fn of(ns: &Ns) -> Snapshot {
        let mut lines = BTreeSet::new();
        let mut add = |topic: &str, text: &str| {
            lines.extend(text.lines().map(|line| format!("{topic}: {}", line.trim_end())));
        };
        add("link", &ns.sh("ip -d -o link"));
        add("address", &ns.sh("ip -o address"));
        add("route", &ns.sh("ip -o route show table all"));
        add("rule", &ns.sh("ip -o rule"));
        add("qdisc", &ns.sh("tc qdisc show"));
        for (ifindex, ifname) in ns.run(interfaces) {
            for (direction, hook) in [("ingress", BPF_TCX_INGRESS), ("egress", BPF_TCX_EGRESS)] {
                // without a clsact qdisc the command fails, which is fine
                let filters = ns.sh(&format!("tc filter show dev {ifname} {direction} 2>&1 || :"));
                add(&format!("filter on {ifname} {direction}"), &filters);
                let attached = ns.run(|| tcx::query(ifindex, hook)).attached;
                let attached =
                    if attached.is_empty() { vec![] } else { vec![format!("{attached:?}")] };
                add(&format!("tcx on {ifname} {direction}"), &attached.concat());
            }
        }
        add("pin", &pins_below(Path::new("/sys/fs/bpf")));
        Snapshot(lines)
    }

    /// The lines that are new since `before`, as `+ line`, and those that are gone, as `- line`.
    pub fn changes_since(&self, before: &Snapshot) -> Vec<String> {
        let new = self.0.difference(&before.0).map(|line| format!("+ {line}"));
        let gone = before.0.difference(&self.0).map(|line| format!("- {line}"));
        gone.chain(new).collect()
    }
}

fn interfaces() -> Vec<(c_int, String)> {
    let interfaces = if_nameindex().expect("the interfaces");
    let interface = |i: &nix::net::if_::Interface| {
        (i.index() as c_int, i.name().to_str().expect("a name in ASCII").to_owned())
    };
    interfaces.iter().map(interface).collect()
}

/// Every directory, map, program and link below `dir`, one line each.
fn pins_below(dir: &Path) -> String {
    let mut lines = String::new();
    for entry in fs::read_dir(dir).expect("a directory of pins") {
        let path = entry.expect("a pin").path();
        if path.is_dir() {
            lines += &format!("{} directory\n{}", path.display(), pins_below(&path));
        } else {
            lines += &format!("{} {}\n", path.display(), kind_of_pin(&path));
        }
    }
    lines
}

/// The kernel's name for the kind of a pinned object: `bpf-map`, `bpf-prog` or `bpf_link`. A kernel that is built with
/// `CONFIG_BPF_PRELOAD` puts `*.debug` files into every new bpffs. These are no pins.
fn kind_of_pin(path: &Path) -> String {
    let name = CString::new(path.as_os_str().as_bytes()).expect("a path");
    // SAFETY: `name` ends in a zero byte
    let fd = unsafe { libbpf_sys::bpf_obj_get(name.as_ptr()) };
    if fd < 0 {
        return format!("no object: {}", io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the call has just opened it, for nobody else
    let object = unsafe { File::from_raw_fd(fd) };
    let target = fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd()));
    let target = target.expect("what the file is");
    target.to_string_lossy().trim_start_matches("anon_inode:").to_owned()
}
