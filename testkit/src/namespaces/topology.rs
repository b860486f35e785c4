//! Builds the namespaces, mounts and links of a test, and runs the test in them.

use std::fs;
use std::net::Ipv4Addr;
use std::panic;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{Ns, eventually};

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// The host's address on the client's network. On the collector's network it is 10.2.0.1.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub const COLLECTOR: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);

/// Link-layer address of the client's `eth0`.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 1, 0, 2];
/// Link-layer address of the host's `eth0`.
pub const HOST_MAC: [u8; 6] = [2, 0, 0, 1, 0, 1];
/// Link-layer address of the server's `eth0`: see [`Topology::server`].
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 3, 0, 2];
/// Link-layer address of the host's `eth2`, on the server's link.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 3, 0, 1];

const HOST_LINKS: &str = "
    link add eth0 address 02:00:00:01:00:01 type veth \
        peer name eth0 address 02:00:00:01:00:02 netns client
    link add eth1 address 02:00:00:02:00:01 type veth \
        peer name eth0 address 02:00:00:02:00:02 netns collector
    address add 10.1.0.1/24 dev eth0
    address add 10.2.0.1/24 dev eth1
    link set eth0 up
    link set eth1 up";
const CLIENT_LINKS: &str = "
    address add 10.1.0.2/24 dev eth0
    link set eth0 up
    route add default via 10.1.0.1";
const COLLECTOR_LINKS: &str = "
    address add 10.2.0.2/24 dev eth0
    link set eth0 up
    route add default via 10.2.0.1";

/// Limits for fragments that wait for reassembly at the collector. Between namespaces, each outer fragment holds a
/// buffer of the whole copy's size, so on a slow machine the default limit on memory is too low. The kernel also drops
/// an incomplete datagram when 64 other fragments of the same sender come in between. Another CPU may send as many.
const ROOM_FOR_FRAGMENTS: &str = "
    echo 99999999 > /proc/sys/net/ipv4/ipfrag_high_thresh
    echo 0 > /proc/sys/net/ipv4/ipfrag_max_dist";

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 2);
const SERVER_SIDE_LINKS: &str = "
    link add eth2 address 02:00:00:03:00:01 type veth \
        peer name eth0 address 02:00:00:03:00:02 netns server
    address add 10.3.0.1/24 dev eth2
    link set eth2 up";
const SERVER_LINKS: &str = "
    address add 10.3.0.2/24 dev eth0
    link set eth0 up
    route add default via 10.3.0.1";

const NO_IPV6: &str = "
    for conf in /proc/sys/net/ipv6/conf/all /proc/sys/net/ipv6/conf/default; do
        [ ! -e $conf ] || echo 1 > $conf/disable_ipv6
    done";

/// The namespaces of the picture in [`super`].
pub struct Topology {
    host: Ns,
    client: Ns,
    collector: Ns,
}

impl Topology {
    /// Runs `test` in a new topology, on a thread of its own in the host's namespace. A panic of the test goes on to
    /// the caller. The topology ends with the thread.
    pub fn run<T: Send>(test: impl FnOnce(&Topology) -> T + Send) -> T {
        on_a_thread(|| test(&Topology::new()))
    }

    /// The same with the host alone, which has only the loopback device.
    pub fn without_links<T: Send>(test: impl FnOnce(&Ns) -> T + Send) -> T {
        on_a_thread(|| {
            let host = new_host();
            ip(&host, "");
            test(&host)
        })
    }

    pub fn host(&self) -> &Ns {
        &self.host
    }

    pub fn client(&self) -> &Ns {
        &self.client
    }

    pub fn collector(&self) -> &Ns {
        &self.collector
    }

    /// Makes the host a router, and adds a server behind its `eth2`, with the address 10.3.0.2.
    pub fn server(&self) -> Ns {
        let server = Ns::create("server", SERVER);
        server.sh(NO_IPV6);
        ip(&self.host, SERVER_SIDE_LINKS);
        ip(&server, SERVER_LINKS);
        self.host.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        await_up(&[&self.host, &server]);
        server
    }

    fn new() -> Topology {
        let host = new_host();
        let client = Ns::create("client", CLIENT);
        let collector = Ns::create("collector", COLLECTOR);
        let namespaces = [&host, &client, &collector];

        for ns in namespaces {
            ns.sh(NO_IPV6);
        }
        collector.sh(ROOM_FOR_FRAGMENTS);
        ip(&host, HOST_LINKS);
        ip(&client, CLIENT_LINKS);
        ip(&collector, COLLECTOR_LINKS);
        await_up(&namespaces);
        Topology { host, client, collector }
    }
}

/// Runs `body` on a thread of its own. A panic there goes on to the caller.
fn on_a_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let name = thread::current().name().unwrap_or("topology").to_owned();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, body);
        let result = thread.expect("a thread for the topology").join();
        result.unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Gives the calling thread new namespaces and mounts: it is on the host from now on.
fn new_host() -> Ns {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .expect("new namespaces (this needs root)");
    mount_own_file_systems();
    Ns::of_this_thread("host", HOST)
}

/// Waits until all links are up. Before that, the kernel drops what an interface sends.
fn await_up(namespaces: &[&Ns]) {
    for ns in namespaces {
        eventually("links that are up", || {
            let links = ns.sh("ip -o link show type veth");
            links.lines().all(|link| link.contains("state UP"))
        });
    }
}

/// Turns off offloads on all links. Then every packet is a frame of its own with its final checksums, so copies can be
/// compared with packets one by one.
pub fn one_frame_per_packet(net: &Topology) {
    net.client().without_offloads("eth0");
    for ifname in ["eth0", "eth1"] {
        net.host().without_offloads(ifname);
    }
    // TCP sends super-packets even by an interface without offloads
    net.host().sh("ip link set eth0 gso_max_segs 1");
}

/// Sets the loopback device up, and runs these commands of ip(8).
fn ip(ns: &Ns, commands: &str) {
    ns.sh(&format!("ip -batch - <<end\nlink set lo up{commands}\nend"));
}

/// Mounts the `/sys` of the new network namespace, and empty file systems for pins, for the names of namespaces and for
/// logs. Only the thread's mount namespace has them.
fn mount_own_file_systems() {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");

    // sysfs first: it would hide what is mounted below it
    for (kind, path) in
        [("sysfs", "/sys"), ("bpf", "/sys/fs/bpf"), ("tmpfs", "/run"), ("tmpfs", "/var/log")]
    {
        mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>)
            .unwrap_or_else(|error| panic!("{kind} on {path}: {error}"));
    }
    fs::create_dir("/run/netns").expect("/run/netns");
}
