//! Ways to mirror what a host sends, each in a topology of its own, so that they can be taken in turns.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::Program;
use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use traffic_mirroring::attach::tcx::{self, TcxLink};
use traffic_mirroring::model::Direction;

use crate::programs;
use crate::run::{Case, nanoseconds};
use testkit::namespaces::{Daemon, Ns, Topology};
use testkit::test_run::packets::udp;

/// What is mirrored, of UDP and of TCP.
pub const PORT: u16 = 5300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Nothing,
    BareClone,
    BuiltIn,
    CloneToVxlan,
    MirredToVxlan,
    Tee,
}

impl Way {
    pub const ALL: [Self; 6] = [
        Self::Nothing,
        Self::BareClone,
        Self::BuiltIn,
        Self::CloneToVxlan,
        Self::MirredToVxlan,
        Self::Tee,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no mirroring",
            Self::BareClone => "a bare clone to the NIC",
            Self::BuiltIn => "mirroring, built-in tunnel",
            Self::CloneToVxlan => "a bare clone to VXLAN",
            Self::MirredToVxlan => "tc u32 and mirred to VXLAN",
            Self::Tee => "iptables TEE",
        }
    }
}

/// A topology in which what the host sends to [`PORT`] of the client is mirrored in one of the ways.
pub struct Lane<'a> {
    pub way: Way,
    host: &'a Ns,
    socket: UdpSocket,
    bulk: Bulk,
    collector: &'a Ns,
    _daemon: Option<Daemon>,
    _links: Vec<TcxLink>,
}

impl<'a> Lane<'a> {
    fn open(net: &'a Topology, way: Way) -> Self {
        let host = net.host();
        // nobody at the far ends answers for long: UDP and copies are dropped there
        host.sh("ip neigh replace 10.1.0.2 lladdr 02:00:00:01:00:02 dev eth0 nud permanent
                 ip neigh replace 10.2.0.2 lladdr 02:00:00:02:00:02 dev eth1 nud permanent");
        let mut links = vec![
            attach(net.client(), "eth0", Direction::Ingress, programs::drop_udp()),
            attach(net.collector(), "eth0", Direction::Ingress, programs::drop_all()),
        ];
        let mut clone_to = |device| {
            let ifindex = host.run(|| if_nametoindex(device).expect("a device"));
            links.push(attach(host, "eth0", Direction::Egress, programs::bare_clone(ifindex)));
        };
        let mut daemon = None;
        match way {
            Way::Nothing => {}
            Way::BareClone => clone_to("eth1"),
            Way::BuiltIn => {
                let filter = ["--protocol=udp,tcp", "--dst-port=5300"];
                daemon = Some(testkit::namespaces::start(net, "egress", &filter));
            }
            Way::CloneToVxlan => {
                testkit::namespaces::vxlan_to(host, "10.2.0.2");
                clone_to("vx0");
            }
            Way::MirredToVxlan => {
                testkit::namespaces::vxlan_to(host, "10.2.0.2");
                host.sh("tc qdisc add dev eth0 clsact
                         for protocol in 6 17; do
                             tc filter add dev eth0 egress protocol ip u32 \
                                 match ip protocol $protocol 0xff match ip dport 5300 0xffff \
                                 action mirred egress mirror dev vx0
                         done");
            }
            Way::Tee => {
                host.sh("for protocol in tcp udp; do
                             iptables -t mangle -A POSTROUTING -o eth0 -p $protocol --dport 5300 \
                                 -j TEE --gateway 10.2.0.2
                         done");
            }
        }
        let socket = testkit::namespaces::bind(host, || UdpSocket::bind((host.address(), 0)));
        socket.connect((net.client().address(), PORT)).expect("connect");
        let bulk = Bulk::open(net);
        let collector = net.collector();
        Self { way, host, socket, bulk, collector, _daemon: daemon, _links: links }
    }

    /// Nanoseconds for a packet, of `count` that are `length` bytes long from the IP header on.
    pub fn send(&self, count: u32, length: usize) -> f64 {
        const HEADERS: usize = 28;
        let data = vec![0xa5; length - HEADERS];
        let began = Instant::now();
        for _ in 0..count {
            self.socket.send(&data).expect("send");
        }
        began.elapsed().as_nanos() as f64 / f64::from(count)
    }

    /// Nanoseconds for a packet that did not begin on this host, of `count` that the first program on `eth0` is
    /// given; where there is none, one that does nothing.
    pub fn pass_on(&self, count: u32, length: usize) -> f64 {
        let frame = udp("10.1.0.3:1000", "10.1.0.2:5300").of_length(length).frame();
        self.host.run(|| {
            let eth0 = if_nametoindex("eth0").expect("a device");
            let program = match tcx::programs(eth0, Direction::Egress).first() {
                Some(id) => Program::fd_from_id(*id).expect("a program that is attached"),
                None => programs::empty(),
            };
            nanoseconds(&Case { program: program.as_fd(), frame: &frame }, count)
        })
    }

    /// Bytes a second that a TCP stream carries.
    pub fn stream(&mut self, time: Duration) -> f64 {
        self.bulk.run(time)
    }

    /// Frames that have come to the collector so far.
    pub fn arrived(&self) -> u64 {
        let devices = self.collector.run(|| {
            fs::read_to_string("/proc/thread-self/net/dev").expect("the devices' counters")
        });
        // bytes and packets received come first
        let counters = devices.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        let packets = counters.and_then(|counters| counters.split_whitespace().nth(1));
        packets.and_then(|packets| packets.parse().ok()).expect("a count")
    }
}

fn attach(ns: &Ns, device: &str, direction: Direction, program: OwnedFd) -> TcxLink {
    ns.run(|| {
        let ifindex = if_nametoindex(device).expect("a device");
        let link = TcxLink::attach(program.as_fd(), ifindex, direction).expect("to attach");
        link.expect("the benchmark needs TCX: Linux 6.6 or later")
    })
}

/// A connection from the host to the client, over which all is sent that goes.
struct Bulk {
    near: TcpStream,
    far: TcpStream,
}

impl Bulk {
    fn open(net: &Topology) -> Self {
        let (host, client) = (net.host(), net.client());
        let listener =
            testkit::namespaces::bind(client, || TcpListener::bind((client.address(), PORT)));
        let near = host.run(|| TcpStream::connect((client.address(), PORT)).expect("connect"));
        let (far, _) = listener.accept().expect("accept");
        far.set_read_timeout(Some(Duration::from_millis(100))).expect("a time limit");
        Self { near, far }
    }

    fn run(&mut self, time: Duration) -> f64 {
        let stop = AtomicBool::new(false);
        let (near, far) = (&mut self.near, &mut self.far);
        thread::scope(|scope| {
            scope.spawn(|| {
                let data = vec![0xa5; 256 << 10];
                while !stop.load(Ordering::Relaxed) {
                    near.write_all(&data).expect("write");
                }
            });
            let mut buffer = vec![0; 256 << 10];
            let began = Instant::now();
            let mut received = 0;
            while began.elapsed() < time {
                received += far.read(&mut buffer).expect("read");
            }
            let rate = received as f64 / began.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            // what is on its way still arrives: the next round begins with nothing
            while far.read(&mut buffer).is_ok_and(|length| length > 0) {}
            rate
        })
    }
}

type Body<'a, T> = Box<dyn FnOnce(&mut [Lane<'_>]) -> T + Send + 'a>;

/// Calls `body` with a lane for each of the ways.
pub fn with_lanes<T: Send>(ways: &[Way], body: impl FnOnce(&mut [Lane<'_>]) -> T + Send) -> T {
    open_the_rest(ways, Vec::new(), Box::new(body))
}

/// A topology lives as long as the thread that it runs on: so they are nested.
fn open_the_rest<T: Send>(ways: &[Way], mut lanes: Vec<Lane<'_>>, body: Body<'_, T>) -> T {
    let Some((way, rest)) = ways.split_first() else {
        return body(&mut lanes);
    };
    Topology::run(|net| {
        let mut lanes: Vec<Lane<'_>> = lanes;
        lanes.push(Lane::open(net, *way));
        open_the_rest(rest, lanes, body)
    })
}

/// From here on the calling thread runs on one CPU only: so does all that its packets cause.
pub fn stay_on_one_cpu() {
    let mut set = CpuSet::new();
    set.set(0).expect("a CPU's number");
    sched_setaffinity(Pid::from_raw(0), &set).expect("a CPU to run on");
}
