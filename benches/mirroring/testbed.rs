//! Methods of mirroring what a host sends. Each has a topology of its own, so that rounds can
//! alternate.

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

/// The UDP and TCP port whose packets are mirrored.
pub const PORT: u16 = 5300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Nothing,
    BareClone,
    BuiltIn,
    CloneToVxlan,
    MirredToVxlan,
    Tee,
}

impl Method {
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

/// A topology in which one method mirrors what the host sends to [`PORT`] of the client.
pub struct Testbed<'a> {
    pub method: Method,
    host: &'a Ns,
    socket: UdpSocket,
    bulk: Bulk,
    collector: &'a Ns,
    _daemon: Option<Daemon>,
    _links: Vec<TcxLink>,
}

impl<'a> Testbed<'a> {
    fn open(net: &'a Topology, method: Method) -> Self {
        let host = net.host();
        // permanent neighbours, because UDP packets and copies are dropped at the far ends, so
        // nobody answers ARP for long
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
        match method {
            Method::Nothing => {}
            Method::BareClone => clone_to("eth1"),
            Method::BuiltIn => {
                let filter = ["--protocol=udp,tcp", "--dst-port=5300"];
                daemon = Some(testkit::namespaces::start(net, "egress", &filter));
            }
            Method::CloneToVxlan => {
                testkit::namespaces::vxlan_to(host, "10.2.0.2");
                clone_to("vx0");
            }
            Method::MirredToVxlan => {
                testkit::namespaces::vxlan_to(host, "10.2.0.2");
                host.sh("tc qdisc add dev eth0 clsact
                         for protocol in 6 17; do
                             tc filter add dev eth0 egress protocol ip u32 \
                                 match ip protocol $protocol 0xff match ip dport 5300 0xffff \
                                 action mirred egress mirror dev vx0
                         done");
            }
            Method::Tee => {
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
        Self { method, host, socket, bulk, collector, _daemon: daemon, _links: links }
    }

    /// Sends `count` packets of `length` bytes from the IP header on. Returns the nanoseconds per
    /// packet.
    pub fn send(&self, count: u32, length: usize) -> f64 {
        const HEADERS: usize = 28;
        let data = vec![0xa5; length - HEADERS];
        let began = Instant::now();
        for _ in 0..count {
            self.socket.send(&data).expect("send");
        }
        began.elapsed().as_nanos() as f64 / f64::from(count)
    }

    /// Runs the first program on `eth0` `count` times, on a packet that this host forwards. Without
    /// a program there, it runs an empty one. Returns the nanoseconds per packet.
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

    /// Bytes per second of a TCP stream.
    pub fn stream(&mut self, time: Duration) -> f64 {
        self.bulk.run(time)
    }

    /// Frames that the collector has received so far.
    pub fn arrived(&self) -> u64 {
        let devices = self.collector.run(|| {
            fs::read_to_string("/proc/thread-self/net/dev").expect("the devices' counters")
        });
        // the counters of received bytes and packets come first
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

/// A TCP connection from the host to the client that sends as much as it can.
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
            // receives what is still on its way, so that the next round begins with nothing
            while far.read(&mut buffer).is_ok_and(|length| length > 0) {}
            rate
        })
    }
}

type Body<'a, T> = Box<dyn FnOnce(&mut [Testbed<'_>]) -> T + Send + 'a>;

/// Calls `body` with a testbed for each method.
pub fn with_testbeds<T: Send>(
    methods: &[Method],
    body: impl FnOnce(&mut [Testbed<'_>]) -> T + Send,
) -> T {
    open_the_rest(methods, Vec::new(), Box::new(body))
}

/// A topology lives only as long as its thread, so topologies are nested.
fn open_the_rest<T: Send>(
    methods: &[Method],
    mut testbeds: Vec<Testbed<'_>>,
    body: Body<'_, T>,
) -> T {
    let Some((method, rest)) = methods.split_first() else {
        return body(&mut testbeds);
    };
    Topology::run(|net| {
        let mut testbeds: Vec<Testbed<'_>> = testbeds;
        testbeds.push(Testbed::open(net, *method));
        open_the_rest(rest, testbeds, body)
    })
}

/// Pins the calling thread to one CPU, and with it all work that its packets cause.
pub fn stay_on_one_cpu() {
    let mut set = CpuSet::new();
    set.set(0).expect("a CPU's number");
    sched_setaffinity(Pid::from_raw(0), &set).expect("a CPU to run on");
}
