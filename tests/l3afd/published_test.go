// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"strings"
	"testing"
)

// form is one of the payloads published for l3afd, with an interface of the tests.
type form struct {
	name      string
	object    string // without the direction
	tunnel    string // how the tunnel is named
	toItself  bool   // copies go to a port of the host itself, and egress mirrors all that it sends
	addressed bool   // the interface's address is given
}

const (
	byType   = `"tunnel-type": "gue"`
	byDevice = `"tunnel-interface-name": "gue1"`
)

// The main branch's payload for two hosts equals that of v2.1.0.
var (
	oldOnTwoHosts = form{name: "v2.0.0, two hosts", object: "mirroring_%s_kern.o", tunnel: byType}
	oldOnOneHost  = form{name: "v2.0.0, one host", object: "mirroring_%s_kern.o", tunnel: byType, toItself: true}
	onTwoHosts    = form{name: "v2.1.0, two hosts", object: "mirroring_%s.bpf.o", tunnel: byDevice}
	onOneHost     = form{name: "v2.1.0, one host", object: "mirroring_%s.bpf.o", tunnel: byDevice, toItself: true}
	addressed     = form{
		name: "main, one host", object: "mirroring_%s.bpf.o", tunnel: byDevice, toItself: true, addressed: true,
	}
)

// text returns the payload as it is posted. It contains only what the published ones contain.
func (it form) text() string {
	to := `"redirect-to": "eth1", "tunnel-remote-address": "192.0.2.50", "tunnel-remote-port": "6080"`
	egressPort := "8080"
	if it.toItself {
		to = `"redirect-to": "lo", "tunnel-remote-address": "127.0.0.1", "tunnel-remote-port": "6081"`
		egressPort = "0"
	}
	address := ""
	if it.addressed {
		address = `"ipv4_address": "192.0.2.1",`
	}
	program := func(direction, filter string) string {
		return fmt.Sprintf(`"tc_%[1]s": [{
			"name": "traffic-mirroring", "artifact": "l3af_traffic_mirroring.tar.gz", "version": "latest",
			"seq_id": 2, "cfg_version": 1, "admin_status": "enabled", "prog_type": "tc",
			"cmd_start": "mirroring", "map_name": "mirroring_%[1]s_jmp_table",
			"object_file": %[2]q, "entry_function_name": "_%[1]s_redirect", "monitor_maps": [],
			"start_args": {"protocol": "tcp,icmp", "tunnel-local-port": "6080", %[3]s, %[4]s, %[5]s}
		}]`, direction, fmt.Sprintf(it.object, direction), it.tunnel, to, filter)
	}
	return fmt.Sprintf(`[{"host_name": "h", "iface": "eth0", %s "bpf_programs": {%s, %s}}]`, address,
		program("ingress", `"src-address": "0.0.0.0", "src-port": "0", "dst-port": "8080"`),
		program("egress", fmt.Sprintf(`"dst-address": "0.0.0.0", "src-port": %q, "dst-port": "0"`, egressPort)))
}

const removal = `[{"host_name": "h", "iface": "eth0", "bpf_programs": {
	"xdp_ingress": null, "tc_ingress": ["traffic-mirroring"], "tc_egress": ["traffic-mirroring"]}}]`

func TestPublishedPayloadsWorkUnchanged(t *testing.T) {
	eachRelease(t, func(t *testing.T, release string) {
		for _, it := range []form{oldOnTwoHosts, oldOnOneHost, onTwoHosts, onOneHost, addressed} {
			for _, unchained := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, unchained: %t", it.name, unchained), func(t *testing.T) {
					topo := newTopology(t, settings{release: release, unchained: unchained})
					if it.toItself {
						topo.collectAt("", "127.0.0.1:6081")
					}
					topo.post(topo, "add", it.text())
					topo.expect("add", both("tcp")...)
					topo.post(topo, "delete", removal)
					topo.expect("deleted")
					topo.expectNothingLeft()
				})
			}
		}
	})
}

// The usual check for copies: tcpdump on the tunnel's device, and at the collector.
func TestTheTunnelsDeviceShowsWhatIsMirrored(t *testing.T) {
	if !hasLinux(t, 6, 2) {
		t.Skip("before Linux 6.2, a built-in tunnel cannot show what leaves by it")
	}
	for _, it := range []form{onTwoHosts, onOneHost} {
		t.Run(it.name, func(t *testing.T) {
			topo := newTopology(t, settings{})
			arriving := []string{"-i", "eth1", "udp", "port", "6080"}
			if it.toItself {
				topo.collectAt("", "127.0.0.1:6081")
				arriving = []string{"-i", "lo", "udp", "port", "6081"}
			}
			topo.post(topo, "add", it.text())
			topo.expect("add", both("tcp")...)
			for _, which := range []string{"dst", "src"} {
				inner := []string{"-i", "gue1", "tcp", which, "port", "8080", "and", which, "host", hostAddress}
				for _, filter := range [][]string{inner, arriving} {
					seen := run(t, "timeout", append([]string{fmt.Sprint(patience.Seconds()),
						"tcpdump", "-n", "-c", "2"}, filter...)...)
					if !strings.Contains(seen, "2 packets captured") {
						t.Fatalf("tcpdump %q: %s", filter, seen)
					}
				}
			}
			topo.post(topo, "delete", removal)
			topo.expect("deleted")
			topo.expectNothingLeft()
		})
	}
}
