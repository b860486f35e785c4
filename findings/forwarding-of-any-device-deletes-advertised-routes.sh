#!/usr/bin/env bash
# Linux 6.18: net.ipv6.conf.DEVICE.forwarding is a setting of one device, but writing 1 there deletes the default routes
# that router advertisements brought by all the others, whose forwarding is 0 and stays so. It does so at each write, also
# when the value is 1 already, so what "only makes sure" of the setting takes the route away again after each
# advertisement. The IPv4 setting of the same name touches no route.
#
# Seen, with a default route by "wan" from an advertisement, and an unrelated device "other":
#   net.ipv4.conf.other.forwarding=1 -> the route is there
#   net.ipv6.conf.other.forwarding=1 -> it is gone; after another advertisement, 1 written once more -> gone again
#   with net.ipv6.conf.wan.accept_ra=2 -> the route stays
#
# Needs root, ip(8) and python3. Exits 1 if any of that is otherwise.
set -euo pipefail

[ "$(id -u)" = 0 ] || {
    echo "root is missing, for network namespaces" >&2
    exit 2
}
# shellcheck disable=SC2016 # the inner shell expands them
said=$(unshare --net --mount bash -euo pipefail -c '
    conf=/proc/sys/net/ipv6/conf
    ip link add wan type veth peer name router
    ip link add other type veth peer name other-p
    echo 0 >$conf/router/accept_dad
    echo 0 >$conf/router/accept_ra
    echo 0 >$conf/wan/accept_dad
    for device in wan router other other-p; do ip link set "$device" up; done
    for ((waits = 0; waits < 100; waits++)); do
        ! ip -6 address show dev router | grep -q "inet6 fe80" || break
        sleep 0.1
    done
    has_route() { ip -6 route show default | grep -q "dev wan proto ra"; }
    advertise() {
        python3 -c "
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
link = socket.if_nametoindex(\"router\")
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link)
s.sendto(struct.pack(\"!BBHBBHII\", 134, 0, 0, 64, 0, 1800, 0, 0), (\"ff02::1\", 0, 0, link))
"
        for ((waits = 0; waits < 100; waits++)); do
            ! has_route || return 0
            sleep 0.1
        done
        echo "no route came of the advertisement" >&2
        return 1
    }
    tell() { if has_route; then echo there; else echo gone; fi; }
    advertise
    echo 1 >/proc/sys/net/ipv4/conf/other/forwarding
    tell
    echo 1 >$conf/other/forwarding
    tell
    advertise
    echo 1 >$conf/other/forwarding
    tell
    echo 2 >$conf/wan/accept_ra
    advertise
    echo 1 >$conf/other/forwarding
    tell
' | xargs)
echo "$said"
[ "$said" = "there gone gone there" ] || {
    echo "changed: there gone gone there was seen" >&2
    exit 1
}
