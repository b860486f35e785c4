// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"testing"

	"l3afd/payload"
)

// posted is a payload of people who used the package that this one replaces.
const posted = `[{"host_name": "h", "iface": "eth0", "ipv4_address": "192.0.2.1", "bpf_programs": {"tc_ingress": [{
  "name": "traffic-mirroring", "seq_id": 2, "artifact": "l3af_traffic_mirroring.tar.gz", "cmd_start": "mirroring",
  "version": "latest", "map_name": "mirroring_ingress_jmp_table", "admin_status": "enabled", "prog_type": "tc",
  "cfg_version": 1, "object_file": "mirroring_ingress.bpf.o", "entry_function_name": "_ingress_redirect",
  "start_args": {"src-address": "0.0.0.0", "tunnel-interface-name": "gue1", "tunnel-local-port": "6080",
    "tunnel-remote-port": "6080", "tunnel-remote-address": "192.0.2.50", "redirect-to": "eth1",
    "src-port": "0", "dst-port": "8080", "protocol": "tcp,icmp"}, "monitor_maps": []}]}}]`

func TestAPayloadForThePackageThatThisOneReplacesWorksUnchanged(t *testing.T) {
	w := newWorld(t, settings{logs: true})
	w.post(w, "add", posted)
	w.expectSince(w.next(), "add", stream{"ingress", "tcp"})
	w.remove(w, ourName)
	w.expect("deleted")
	w.expectNothingLeft()
}

// The payload by which people try things on one machine: copies go to a port of its own.
func TestAPayloadForOneMachineWorks(t *testing.T) {
	oneMachine := func(t *testing.T) payload.Deployment {
		all := ours(t, "classic")
		each(&all, func(program *payload.Program, _ string) {
			program.StartArgs["redirect-to"] = "lo"
			program.StartArgs["tunnel-remote-address"] = "127.0.0.1"
			program.StartArgs["tunnel-remote-port"] = "6081"
		})
		return all
	}

	t.Run("without a device made beforehand", func(t *testing.T) {
		w := newWorld(t, settings{})
		w.collectAt("", "127.0.0.1:6081")
		w.add(w, oneMachine(t))
		w.expect("add", both("tcp")...)
		w.remove(w, ourName)
		w.expect("deleted")
		w.expectNothingLeft()
	})

	t.Run("with one", func(t *testing.T) {
		w := newWorld(t, settings{})
		// one that every kernel has; it says itself where copies go
		w.collectAt("collector", collectorAddress+":4789")
		run(t, "ip", "link", "add", "gue1", "type", "vxlan", "id", "7",
			"remote", collectorAddress, "dstport", "4789", "dev", "eth1")
		t.Cleanup(func() { run(t, "ip", "link", "delete", "gue1") })
		run(t, "ip", "link", "set", "gue1", "up")
		w.add(w, oneMachine(t))
		w.expect("add", both("tcp")...)
		w.remove(w, ourName)
		w.expect("deleted")
		w.expectNothingLeft("gue1")
	})
}

func TestThePayloadsRulesAreInForce(t *testing.T) {
	w := newWorld(t, settings{})
	it := ours(t, "classic")
	each(&it, func(program *payload.Program, _ string) {
		withRules(program, `{"rules": [
			{"action": "exclude", "protocol": ["tcp"]},
			{"src": ["192.0.2.0/30"], "dst": ["192.0.2.0/30"]}
		]}`)
	})
	w.add(w, it)
	w.expect("add", both("udp")...)
	w.remove(w, ourName)
	w.expect("deleted")
	w.expectNothingLeft()
}
