//! `--max-rate`: copies over the cap are counted and left out. Production is not affected.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

const PORT: u16 = 5300;
const ASKED_FOR: [&str; 2] = ["--protocol=udp", "--dst-port=5300"];

const PAYLOAD: usize = 1250;
/// Of a copy: IPv4 and UDP around the payload, and IPv4, UDP and GUE around these.
const OUTER: usize = PAYLOAD + 28 + 32;

/// What may leave at once, at rates as low as in these tests.
const BURST: f64 = 65_536.0;

/// Two CPUs, if there are as many.
fn two_cpus() -> Vec<usize> {
    cpus().into_iter().take(2).collect()
}

/// What an ideal cap lets through, in bytes, of packets that come at these times.
fn let_through(bytes_per_second: f64, times: &[Duration]) -> f64 {
    let (mut bucket, mut passed, mut last) = (BURST, 0.0, times[0]);
    for &time in times {
        bucket += bytes_per_second * time.saturating_sub(last).as_secs_f64();
        bucket = bucket.min(BURST);
        last = time;
        if bucket >= OUTER as f64 {
            bucket -= OUTER as f64;
            passed += OUTER as f64;
        }
    }
    passed
}

/// Sends several times as much as the cap lets out. Returns how many datagrams there were, and how
/// many of their copies arrived.
fn check_cap(net: &Topology, bytes_per_second: f64, cpus: &[usize]) -> (usize, usize) {
    // the bucket fills up
    thread::sleep(Duration::from_secs_f64(BURST / bytes_per_second));
    let collector = Collector::listen(net.collector(), GUE_PORT);
    let capture = Capture::start(net.host(), "eth0");
    let all = 5.0 * bytes_per_second / OUTER as f64;
    let time = Duration::from_secs(3);
    let each = all as u32 / cpus.len() as u32;
    let sent = udp_blast(net.client(), net.host(), PORT, PAYLOAD, each, time, cpus);
    let copies = collector.stop_after_quiet(QUIET).0.len();
    let frames = capture.stop();

    let datagrams = frames.0.iter().filter(|frame| frame.bytes.len() == 14 + PAYLOAD + 28);
    let times: Vec<_> = datagrams.map(|frame| frame.at).collect();
    assert_eq!(times.len(), sent);
    let (arrived, ideal) = ((copies * OUTER) as f64, let_through(bytes_per_second, &times));
    let time = (times[sent - 1].saturating_sub(times[0])).as_secs_f64();
    println!(
        "{:.3} of the cap on {} CPUs",
        (arrived - BURST) / time / bytes_per_second,
        cpus.len()
    );
    assert!(
        (arrived - ideal).abs() <= 0.1 * ideal,
        "{arrived} bytes in {time} s on {cpus:?}; {ideal} under an ideal cap of {bytes_per_second}"
    );
    (sent, copies)
}

/// The packets that matched, of each CPU that saw any.
fn matched_by_cpu() -> Vec<u64> {
    let path = "/sys/fs/bpf/tc/globals/eth0/traffic-mirroring/latest/ingress_outcomes";
    let outcomes = MapHandle::from_pinned_path(path).expect("the counters");
    let outcomes = outcomes.lookup_percpu(&[0; 4], MapFlags::ANY).expect("the counters");
    let matched = outcomes.expect("an entry").into_iter();
    let matched = matched.map(|it| u64::from_ne_bytes(it[..8].try_into().expect("8 bytes")));
    matched.filter(|matched| *matched > 0).collect()
}

#[test]
fn needs_root_all_cpus_keep_to_the_cap_and_production_passes() {
    for cpus in [&two_cpus()[..1], &two_cpus()] {
        Topology::run(|net| {
            let daemon = start(net, "ingress", &[&ASKED_FOR[..], &["--max-rate=4mbit"]].concat());
            assert!(
                daemon.output().contains("by \"eth1\", at most 4mbit\n"),
                "{}",
                daemon.output()
            );
            let (sent, copies) = check_cap(net, 500_000.0, cpus);
            assert_eq!(matched_by_cpu().len(), cpus.len(), "CPUs that had a part in it");
            let expected = Summary {
                matched: sent,
                sent: copies,
                loop_guard: 0,
                oversize: 0,
                rate_limited: sent - copies,
                failed: 0,
            };
            assert_eq!(Summary::at_end_of(daemon), expected);
        });
    }
}

#[test]
fn needs_root_an_update_keeps_the_cap_unless_its_flag_is_given() {
    Topology::run(|net| {
        let daemon = start(net, "ingress", &[&ASKED_FOR[..], &["--max-rate=1600kbit"]].concat());
        check_cap(net, 200_000.0, &two_cpus());
        let update = |more: &[&str]| {
            let what = ["--cmd=update", "--iface=eth0", "--direction=ingress"];
            command(net.host(), &[&what[..], &ASKED_FOR, more].concat());
        };
        update(&["--max-rate=8mbit"]);
        check_cap(net, 1_000_000.0, &two_cpus());
        update(&["--src-address=10.1.0.0/24"]);
        check_cap(net, 1_000_000.0, &two_cpus());
        assert!(Summary::at_end_of(daemon).rate_limited > 0);
    });
}

#[test]
fn needs_root_a_new_cap_alone_leaves_rules_and_their_counts() {
    in_every_launch_mode(|net, launcher| {
        let daemon = launcher.start(Way::Ingress, &["--protocol=icmp"]);
        let look = || {
            let maps = instance(Way::Ingress).maps().expect("the maps");
            (maps.installation(), maps.outcomes_of(0).expect("the counters of the rule").matched)
        };
        let (installation, _) = look();
        for (sent, cap, bytes, burst) in
            [(3, "800mbit", 100_000_000, 1_000_000), (6, "400mbit", 50_000_000, 500_000)]
        {
            ping(net.client(), net.host(), 3, 56);
            assert_eq!(look(), (installation, sent));
            let cap = format!("--max-rate={cap}");
            let update = ["--cmd=update", "--iface=eth0", "--direction=ingress", &cap];
            command(net.host(), &update);
            assert_eq!(look(), (installation, sent), "they go on");
            let tunnel =
                instance(Way::Ingress).tunnel().expect("the tunnel").expect("one in force");
            assert_eq!((tunnel.rate, tunnel.burst, tunnel.unasked_len), (bytes, burst, 0));
        }
        assert_eq!(copies_of_three_pings(net), 3);
        assert_eq!(look(), (installation, 9));
        daemon.map(Daemon::terminate);
    });
}

#[test]
fn needs_root_without_a_cap_every_copy_leaves() {
    Topology::run(|net| {
        let daemon = start(net, "ingress", &ASKED_FOR);
        let time = Duration::from_secs(1);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        let sent = udp_blast(net.client(), net.host(), PORT, PAYLOAD, 2000, time, &two_cpus());
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), sent);
        assert_eq!(Summary::at_end_of(daemon).sent, sent);
    });
}

#[test]
fn needs_root_what_matched_was_sent_or_counted_with_a_reason() {
    Topology::run(|net| {
        let (client, host) = (net.client(), net.host());
        // a device that somebody else made, as the built-in one sends copies also when it is down
        vxlan_to(host, "10.2.0.2");
        let flags = ["--protocol=udp,icmp", "--tunnel-interface-name=vx0", "--max-rate=8kbit"];
        let daemon = start(net, "ingress", &flags);
        let capture = Capture::start(host, "eth1");

        ping(client, host, 3, 56);
        ping(client, host, 4, 1472);
        // these look like packets of the tunnel itself; the host does not forward them
        let stray = client.run(|| UdpSocket::bind("10.1.0.2:0")).expect("bind");
        for _ in 0..5 {
            stray.send_to(b"to the collector", (COLLECTOR, 4789)).expect("send");
        }
        host.sh("ip link set vx0 down");
        ping(client, host, 6, 56);
        host.sh("ip link set vx0 up");
        // these are more than the burst, and what comes at that rate meanwhile
        ping(client, host, 100, 1400);

        let frames = capture.stop();
        let sent = frames.ipv4(Direction::Sent);
        let copies = sent.iter().filter(|packet| packet[9] == 17).count();
        let summary = Summary::at_end_of(daemon);
        assert_eq!(
            (summary.oversize, summary.loop_guard, summary.failed),
            (4, 5, 6),
            "{summary:?}"
        );
        assert!(summary.rate_limited > 0 && summary.sent > 3, "{summary:?}");
        assert_eq!((summary.matched, summary.sent), (118, copies), "{summary:?}");
    });
}
