// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"testing"

	"l3afd/payload"
)

// Payloads for trials on one machine use a tunnel device that was made beforehand.
func TestADeviceMadeBeforehandIsUsed(t *testing.T) {
	topo := newTopology(t, settings{})
	// a device type that every kernel has; the device itself has the collector's address
	topo.collectAt("collector", collectorAddress+":4789")
	run(t, "ip", "link", "add", "gue1", "type", "vxlan", "id", "7",
		"remote", collectorAddress, "dstport", "4789", "dev", "eth1")
	t.Cleanup(func() { run(t, "ip", "link", "delete", "gue1") })
	run(t, "ip", "link", "set", "gue1", "up")
	topo.post(topo, "add", onOneHost.text())
	topo.expect("add", both("tcp")...)
	topo.post(topo, "delete", removal)
	topo.expect("deleted")
	topo.expectNothingLeft("gue1")
}

func TestThePayloadsRulesAreInForce(t *testing.T) {
	topo := newTopology(t, settings{})
	it := ours(t, "classic")
	each(&it, func(program *payload.Program, _ string) {
		withRules(program, `{"rules": [
			{"action": "exclude", "protocol": ["tcp"]},
			{"src": ["192.0.2.0/30"], "dst": ["192.0.2.0/30"]}
		]}`)
	})
	topo.add(topo, it)
	topo.expect("add", both("udp")...)
	topo.remove(topo, ourName)
	topo.expect("deleted")
	topo.expectNothingLeft()
}
