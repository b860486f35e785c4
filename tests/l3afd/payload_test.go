// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"testing"

	"l3afd/payload"
)

// Payloads by which people try things on one machine have a tunnel device made beforehand.
func TestADeviceMadeBeforehandIsUsed(t *testing.T) {
	w := newWorld(t, settings{})
	// one that every kernel has; it says itself where copies go
	w.collectAt("collector", collectorAddress+":4789")
	run(t, "ip", "link", "add", "gue1", "type", "vxlan", "id", "7",
		"remote", collectorAddress, "dstport", "4789", "dev", "eth1")
	t.Cleanup(func() { run(t, "ip", "link", "delete", "gue1") })
	run(t, "ip", "link", "set", "gue1", "up")
	w.post(w, "add", onOneHost.text())
	w.expect("add", both("tcp")...)
	w.post(w, "delete", removal)
	w.expect("deleted")
	w.expectNothingLeft("gue1")
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
