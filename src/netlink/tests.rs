//! The client against the kernel, each test in a network namespace of its own.

use std::ffi::OsStr;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, id};
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use nix::sched::{CloneFlags, setns, unshare};

use super::*;
use crate::model::Direction;

const PAIR: VethPair = VethPair {
    name: "near",
    peer: "far",
    address: [2, 0, 0, 0, 0, 1],
    alias: "ours",
    peer_alias: "the far end of ours",
    mtu: 1400,
};
/// A number in RTPROT_* that neither the kernel nor iproute2 gives a meaning.
const PROTOCOL: u8 = 199;

/// Runs `body` on a thread in a new network namespace, which ends with the thread.
fn in_namespace(body: impl FnOnce(&mut Netlink) + Send + 'static) {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare (are we root?)");
        body(&mut Netlink::open().unwrap());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs iproute2 in the namespace of the calling thread.
fn ip(arguments: &str) {
    run("ip", arguments);
}

fn tc(arguments: &str) {
    run("tc", arguments);
}

fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split_whitespace()).status();
    assert!(status.unwrap().success(), "{program} {arguments}");
}

/// Creates [`PAIR`], sets it up, gives `near` 192.0.2.1/24, and returns the index of `near`.
fn network(netlink: &mut Netlink) -> u32 {
    netlink.create_veth(&PAIR).unwrap();
    let near = netlink.link("near").unwrap().unwrap().index;
    ip("address add 192.0.2.1/24 dev near");
    near
}

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn needs_root_a_veth_pair_is_as_it_was_asked_for() {
    in_namespace(|netlink| {
        netlink.create_veth(&PAIR).unwrap();
        let near = netlink.link("near").unwrap().unwrap();
        let far = netlink.link("far").unwrap().unwrap();
        assert_eq!((near.mtu, far.mtu), (1400, 1400));
        assert_eq!(near.alias.as_deref(), Some("ours"));
        assert_eq!(far.alias.as_deref(), Some("the far end of ours"));
        assert_eq!([near.address, far.address], [Some(PAIR.address); 2]);
        assert_eq!(near.kind.as_deref(), Some("veth"));
        assert!(near.ethernet && !near.loopback && near.up && near.remote.is_none());

        ip("link set near down");
        let down = netlink.link("near").unwrap().unwrap();
        assert!(!down.up && !down.carrier);
        netlink.set_up(near.index).unwrap();
        assert!(netlink.link("near").unwrap().unwrap().up);
        let ipv6 = Command::new("ip").args(["-6", "address"]).output().unwrap();
        assert_eq!(String::from_utf8(ipv6.stdout).unwrap(), "", "IPv6 addresses");

        netlink.delete_link(near.index).unwrap();
        assert_eq!(netlink.link("near").unwrap(), None);
        assert_eq!(netlink.link("far").unwrap(), None);
        netlink.delete_link(near.index).expect("it is gone already");
    });
}

#[test]
fn needs_root_a_veth_pair_too_small_for_ipv6_can_be_made() {
    in_namespace(|netlink| netlink.create_veth(&VethPair { mtu: 576, ..PAIR }).unwrap());
}

#[test]
fn needs_root_a_veth_pair_that_cannot_be_made_leaves_nothing() {
    in_namespace(|netlink| {
        let long = "x".repeat(300);
        let error = netlink.create_veth(&VethPair { alias: &long, ..PAIR }).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("cannot set the alias of the device \"near\": "), "{text}");
        assert!(netlink.create_veth(&VethPair { name: "n%d", ..PAIR }).is_err());
        assert_eq!(netlink.links().unwrap().len(), 1, "only lo");

        netlink.create_veth(&PAIR).unwrap();
        let error = netlink.create_veth(&PAIR).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "cannot create the device \"near\" with its peer \"far\": File exists (os error 17)"
        );
        assert_eq!(netlink.links().unwrap().len(), 3);
    });
}

#[test]
fn needs_root_links_lists_more_than_one_buffer_holds() {
    in_namespace(|netlink| {
        for i in 0..150 {
            let (name, peer) = (format!("near{i}"), format!("far{i}"));
            let pair = VethPair { name: &name, peer: &peer, ..PAIR };
            netlink.create_veth(&pair).unwrap();
        }
        let links = netlink.links().unwrap();
        assert_eq!(links.len(), 301);
        assert_eq!(
            links.iter().filter(|link| link.alias.as_deref() == Some(PAIR.alias)).count(),
            150
        );
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(lo.loopback && lo.ethernet && lo.kind.is_none());
    });
}

/// Network automation writes any bytes into an alias, and other devices have attributes of every kind.
#[test]
fn needs_root_an_alias_of_any_bytes_hides_no_device() {
    in_namespace(|netlink| {
        let near = network(netlink);
        let alias = OsStr::from_bytes(b"Anschlu\xdf B\xfcro");
        let status = Command::new("ip")
            .args(["link", "set", "near", "alias"].map(OsStr::new))
            .arg(alias)
            .status();
        assert!(status.unwrap().success());
        let link = netlink.link("near").unwrap().unwrap();
        assert_eq!((link.index, link.alias.as_deref()), (near, Some("Anschlu? B?ro")));
        let names: Vec<_> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
        assert!(names.contains(&"near".to_owned()), "{names:?}");
    });
}

#[test]
fn needs_root_a_request_about_a_missing_device_names_it() {
    in_namespace(|netlink| {
        let text = format!("{:#}", netlink.set_up(77).unwrap_err());
        assert!(text.starts_with("cannot set up the device with index 77: "), "{text}");
        assert!(text.ends_with("No such device (os error 19)"), "{text}");
        assert!(netlink.addresses(77, addr("192.0.2.2")).is_err());
        assert!(netlink.resolve(77, addr("192.0.2.2"), Duration::ZERO).is_err());
    });
}

#[test]
fn needs_root_addresses_come_in_order_and_of_one_device_only() {
    in_namespace(|netlink| {
        let near = network(netlink);
        ip("address add 198.51.100.1/24 dev far");
        ip("address add 192.0.2.7/24 dev near");
        ip("address add 203.0.113.1 peer 203.0.113.64/26 dev near");
        assert_eq!(
            netlink.addresses(near, addr("192.0.2.2")).unwrap(),
            [net("192.0.2.1/24"), net("203.0.113.1/32"), net("192.0.2.7/24")]
        );
        let lo = netlink.link("lo").unwrap().unwrap();
        assert_eq!(netlink.addresses(lo.index, addr("192.0.2.2")).unwrap(), []);
    });
}

#[test]
fn needs_root_a_namespace_without_routes_has_an_empty_list() {
    in_namespace(|netlink| assert_eq!(netlink.routes().unwrap(), []));
}

#[test]
fn needs_root_routes_are_added_listed_and_deleted() {
    in_namespace(|netlink| {
        let near = network(netlink);
        let through_gateway = Route {
            destination: net("198.51.100.9/32"),
            ifindex: Some(near),
            gateway: Some(addr("192.0.2.254")),
            protocol: PROTOCOL,
        };
        let on_link =
            Route { destination: net("203.0.113.0/24"), gateway: None, ..through_gateway };
        let default = Route { destination: net("0.0.0.0/0"), ..through_gateway };
        for route in [through_gateway, on_link, default] {
            netlink.add_route(&route).unwrap();
            assert!(netlink.routes().unwrap().contains(&route), "{route:?}");
            let text = format!("{:#}", netlink.add_route(&route).unwrap_err());
            assert!(text.ends_with("File exists (os error 17)"), "{text}");
        }
        // the kernel adds a route for the address
        assert_eq!(netlink.routes().unwrap().len(), 4);
        for route in [through_gateway, on_link, default] {
            netlink.delete_route(&route).unwrap();
            assert!(!netlink.routes().unwrap().contains(&route), "{route:?}");
            netlink.delete_route(&route).expect("it is gone already");
        }
        assert_eq!(netlink.routes().unwrap().len(), 1);
    });
}

#[test]
fn needs_root_the_routes_of_others_are_not_deleted() {
    in_namespace(|netlink| {
        let near = network(netlink);
        ip("route add 198.51.100.9/32 via 192.0.2.254");
        let others = netlink.routes().unwrap();
        let ours = Route {
            destination: net("198.51.100.9/32"),
            ifindex: Some(near),
            gateway: Some(addr("192.0.2.254")),
            protocol: PROTOCOL,
        };
        netlink.delete_route(&ours).unwrap();
        netlink.delete_route(&Route { gateway: None, ..ours }).unwrap();
        assert!(netlink.delete_route(&Route { protocol: 0, ..ours }).is_err());
        assert_eq!(netlink.routes().unwrap(), others);
    });
}

#[test]
fn needs_root_a_route_that_the_kernel_refuses_is_named() {
    in_namespace(|netlink| {
        let route = Route {
            destination: net("198.51.100.0/24"),
            ifindex: Some(network(netlink)),
            gateway: Some(addr("203.0.113.1")),
            protocol: PROTOCOL,
        };
        assert_eq!(
            format!("{:#}", netlink.add_route(&route).unwrap_err()),
            "cannot add the route to \"198.51.100.0/24\" by way of \"203.0.113.1\" through the \
             device \"near\": Nexthop has invalid gateway: Network is unreachable (os error 101)"
        );
    });
}

#[test]
fn needs_root_route_to_tells_gateway_source_and_mtu() {
    in_namespace(|netlink| {
        let near = network(netlink);
        let on_link =
            NextHop { ifindex: near, gateway: None, source: Some(addr("192.0.2.1")), mtu: None };
        assert_eq!(netlink.route_to(addr("192.0.2.2"), None).unwrap(), on_link);
        assert_eq!(netlink.route_to(addr("192.0.2.2"), Some(near)).unwrap(), on_link);

        let text = format!("{:#}", netlink.route_to(addr("198.51.100.9"), None).unwrap_err());
        assert_eq!(text, "no route to \"198.51.100.9\": Network is unreachable (os error 101)");

        ip("route add 198.51.100.0/24 via 192.0.2.254 mtu 1300");
        let gateway = Some(addr("192.0.2.254"));
        assert_eq!(
            netlink.route_to(addr("198.51.100.9"), None).unwrap(),
            NextHop { gateway, mtu: Some(1300), ..on_link }
        );

        ip("link set lo up");
        let lo = netlink.link("lo").unwrap().unwrap().index;
        assert_eq!(netlink.route_to(addr("127.0.0.1"), None).unwrap().ifindex, lo);
    });
}

#[test]
fn needs_root_a_device_without_a_route_counts_as_on_link() {
    in_namespace(|netlink| {
        let near = network(netlink);
        let hop = netlink.route_to(addr("198.51.100.9"), Some(near)).unwrap();
        assert_eq!((hop.ifindex, hop.gateway), (near, None));

        ip("link set near down");
        let text = format!("{:#}", netlink.route_to(addr("198.51.100.9"), Some(near)).unwrap_err());
        assert_eq!(
            text,
            "no route to \"198.51.100.9\" through the device \"near\": Network is unreachable \
             (os error 101)"
        );
    });
}

#[test]
fn needs_root_a_neighbour_that_answers_is_resolved() {
    in_namespace(|netlink| {
        let near = network(netlink);
        let here = File::open("/proc/thread-self/ns/net").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let there = File::open("/proc/thread-self/ns/net").unwrap();
        setns(&here, CloneFlags::CLONE_NEWNET).unwrap();
        ip(&format!("link set far netns /proc/{}/fd/{}", id(), there.as_raw_fd()));
        setns(&there, CloneFlags::CLONE_NEWNET).unwrap();
        ip("address add 192.0.2.2/24 dev far");
        ip("link set far up");

        // the socket stays in the namespace in which it was opened
        assert!(netlink.resolve(near, addr("192.0.2.2"), Duration::from_secs(5)).unwrap());
        assert!(netlink.resolve(near, addr("192.0.2.2"), Duration::ZERO).unwrap(), "known");
    });
}

#[test]
fn needs_root_a_silent_neighbour_is_not_resolved_in_time() {
    in_namespace(|netlink| {
        let near = network(netlink);
        let timeout = Duration::from_millis(200);
        assert!(!netlink.resolve(near, addr("192.0.2.3"), timeout).unwrap());
    });
}

#[test]
fn needs_root_a_permanent_neighbour_stays_permanent() {
    in_namespace(|netlink| {
        let near = network(netlink);
        ip("neighbour add 192.0.2.4 lladdr 02:00:00:00:00:04 dev near nud permanent");
        assert!(netlink.resolve(near, addr("192.0.2.4"), Duration::ZERO).unwrap());
        let shown = Command::new("ip").args(["neighbour", "show", "192.0.2.4"]).output().unwrap();
        assert!(String::from_utf8(shown.stdout).unwrap().contains("PERMANENT"));
    });
}

#[test]
fn needs_root_the_loopback_device_has_nothing_to_resolve() {
    in_namespace(|netlink| {
        let lo = netlink.link("lo").unwrap().unwrap().index;
        assert!(netlink.resolve(lo, addr("127.0.0.1"), Duration::ZERO).unwrap());
    });
}

#[test]
fn needs_root_to_look_at_a_neighbour_asks_nobody() {
    in_namespace(|netlink| {
        let near = network(netlink);
        let silent = addr("192.0.2.3");
        for _ in 0..2 {
            assert_eq!(netlink.answer(near, silent).unwrap(), None);
        }
        netlink.ask(near, silent).unwrap();
        assert_eq!(netlink.answer(near, silent).unwrap(), Some(Answer::Awaited));
        ip("neighbour replace 192.0.2.3 lladdr 02:00:00:00:00:03 dev near nud permanent");
        assert_eq!(netlink.answer(near, silent).unwrap(), Some(Answer::Known));
    });
}

#[test]
fn needs_root_filters_come_in_the_order_in_which_they_run() {
    in_namespace(|netlink| {
        let near = network(netlink);
        let filters = |netlink: &mut Netlink, direction| {
            let filters = netlink.filters(near, direction).unwrap().into_iter();
            filters.map(|it| (it.kind, it.priority, it.program)).collect::<Vec<_>>()
        };
        assert_eq!(filters(netlink, Direction::Ingress), []);
        tc("qdisc add dev near clsact");
        for filter in ["prio 7 u32 match u32 0 0 at 0", "prio 3 u32 match u32 0 0 at 0"] {
            tc(&format!("filter add dev near ingress {filter}"));
            tc(&format!("filter add dev near ingress {filter}"));
        }
        let expected = [3, 7].map(|priority| ("u32".to_owned(), priority, None));
        assert_eq!(filters(netlink, Direction::Ingress), expected);
        assert_eq!(filters(netlink, Direction::Egress), []);
    });
}

#[test]
fn needs_root_a_vxlan_device_tells_its_remote() {
    in_namespace(|netlink| {
        ip("link add vx type vxlan id 7 remote 192.0.2.50 dstport 4790");
        let link = netlink.link("vx").unwrap().unwrap();
        assert_eq!(link.kind.as_deref(), Some("vxlan"));
        let remote =
            TunnelRemote { address: addr("192.0.2.50"), protocol: 17, port: 4790, overhead: 50 };
        assert_eq!(link.remote, Some(remote));
        ip("link add vx6 type vxlan id 8 remote 2001:db8::50 dstport 4790");
        let link = netlink.link("vx6").unwrap().unwrap();
        let address = addr("2001:db8::50");
        assert_eq!(link.remote, Some(TunnelRemote { address, overhead: 70, ..remote }));
    });
}

/// Creates [`PAIR`], sets it up, gives `near` an address of each network, and returns the index of `near`.
fn network6(netlink: &mut Netlink) -> u32 {
    let near = network(netlink);
    ip("address add 2001:db8:1::1/64 dev near nodad");
    near
}

#[test]
fn needs_root_ipv6_addresses_are_those_to_send_from() {
    in_namespace(|netlink| {
        let near = network6(netlink);
        let far = addr("2001:db8:9::9");
        ip("address add fe80::1/64 dev near nodad");
        ip("address add 2001:db8:2::1/64 dev near nodad preferred_lft 0");
        ip("address add 2001:db8:3::1 peer 2001:db8:3::2/64 dev near nodad");
        // for about a second the kernel checks whether another host has this address
        ip("address add 2001:db8:4::1/64 dev near");
        let addresses = netlink.addresses(near, far).unwrap();
        assert_eq!(addresses.len(), 3, "{addresses:?}");
        for expected in ["2001:db8:1::1/64", "2001:db8:3::1/128", "2001:db8:4::1/64"] {
            assert!(addresses.contains(&net(expected)), "{addresses:?}");
        }
        assert_eq!(netlink.addresses(near, addr("192.0.2.2")).unwrap(), [net("192.0.2.1/24")]);
    });
}

#[test]
fn needs_root_ipv6_routes_are_added_listed_found_and_deleted() {
    in_namespace(|netlink| {
        let near = network6(netlink);
        let far = addr("2001:db8:9::9");
        let error = format!("{:#}", netlink.route_to(far, Some(near)).unwrap_err());
        assert!(error.starts_with("no route to \"2001:db8:9::9\" through the device"), "{error}");

        let before = netlink.routes().unwrap();
        let gateway = Some(addr("fe80::fe"));
        let route = Route {
            destination: net("2001:db8:9::9/128"),
            ifindex: Some(near),
            gateway,
            protocol: PROTOCOL,
        };
        netlink.add_route(&route).unwrap();
        assert!(netlink.routes().unwrap().contains(&route));
        let expected =
            NextHop { ifindex: near, gateway, source: Some(addr("2001:db8:1::1")), mtu: None };
        assert_eq!(netlink.route_to(far, Some(near)).unwrap(), expected);
        assert_eq!(netlink.route_to(far, None).unwrap(), expected);
        netlink.delete_route(&route).unwrap();
        netlink.delete_route(&route).expect("it is gone already");
        assert_eq!(netlink.routes().unwrap(), before);

        ip("route add default via 2001:db8:1::fe mtu 1400");
        let hop = netlink.route_to(far, None).unwrap();
        assert_eq!((hop.gateway, hop.mtu), (Some(addr("2001:db8:1::fe")), Some(1400)));
        let routes = netlink.routes().unwrap();
        assert!(routes.iter().any(|route| route.destination == net("::/0")), "{routes:?}");
    });
}

#[test]
fn needs_root_an_ipv6_neighbour_is_asked_for() {
    in_namespace(|netlink| {
        let near = network6(netlink);
        let silent = addr("2001:db8:1::3");
        assert!(!netlink.resolve(near, silent, Duration::from_millis(100)).unwrap());
        ip("neighbour add 2001:db8:1::4 lladdr 02:00:00:00:00:04 dev near nud permanent");
        assert!(netlink.resolve(near, addr("2001:db8:1::4"), Duration::ZERO).unwrap());
    });
}

#[test]
fn needs_root_links_addresses_routes_and_neighbours_are_told() {
    in_namespace(|netlink| {
        let events = Events::subscribe().unwrap();
        assert_eq!(events.take().unwrap(), []);
        // an event counts once: all that was reported up to it is dropped
        let mut seen = Vec::new();
        let mut wait_for = |wanted: Event| {
            let deadline = Instant::now() + Duration::from_secs(5);
            loop {
                seen.extend(events.take().unwrap());
                if let Some(at) = seen.iter().position(|event| *event == wanted) {
                    break drop(seen.drain(..=at));
                }
                assert!(Instant::now() < deadline, "{wanted:?} is not among {seen:?}");
                thread::sleep(Duration::from_millis(5));
            }
        };
        let near = network(netlink);
        wait_for(Event::Device);
        wait_for(Event::Route(net("192.0.2.0/24")));
        ip("route add 198.51.100.0/24 via 192.0.2.7");
        wait_for(Event::Route(net("198.51.100.0/24")));
        ip("route add default via 192.0.2.7");
        wait_for(Event::Route(net("0.0.0.0/0")));

        let address = addr("192.0.2.9");
        let neighbour = |answers| Event::Neighbour { ifindex: near, address, answers };
        ip("neighbour add 192.0.2.9 lladdr 02:00:00:00:00:09 dev near");
        wait_for(neighbour(true));
        ip("neighbour change 192.0.2.9 nud failed dev near");
        wait_for(neighbour(false));

        ip("address add 2001:db8:1::1/64 dev near nodad");
        wait_for(Event::Route(net("2001:db8:1::/64")));
        wait_for(Event::Device);
        ip("route add default via 2001:db8:1::7");
        wait_for(Event::Route(net("::/0")));
        ip("neighbour add 2001:db8:1::9 lladdr 02:00:00:00:00:09 dev near");
        let address = addr("2001:db8:1::9");
        wait_for(Event::Neighbour { ifindex: near, address, answers: true });
        ip("link delete near");
        wait_for(Event::Device);
    });
}
