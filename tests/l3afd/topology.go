// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
)

// rounds is the number of rounds of production in each check of the copies.
const rounds = 40

// topology is a host with l3afd, production on eth0, and a collector behind eth1.
type topology struct {
	testing.TB
	*daemon
	*traffic
	*collector
	chained    bool
	neighbours []string // they must see every packet too
}

// newTopology makes a topology that lasts until the test ends.
func newTopology(t testing.TB, settings settings) *topology {
	if settings.release == "" {
		settings.release = releases[len(releases)-1]
	}
	mountBPFFS(t)
	makeNetworks(t)
	if settings.release != unreleased || !hasTCX(t) {
		// whoever adds this qdisc, the kernel then drops what the device is sending
		run(t, "tc", "qdisc", "add", "dev", "eth0", "clsact")
	}
	topo := &topology{
		TB:      t,
		chained: !settings.unchained,
		daemon:  startDaemon(t, settings),
		traffic: startTraffic(t),
	}
	topo.collectAt("collector", collectorAddress+":6080")
	return topo
}

// collectAt makes the collector listen at an address in a network namespace.
func (topo *topology) collectAt(netns, address string) {
	topo.collector = startCollector(topo, netns, address)
}

// expect checks the rounds from now on: a copy of each wanted message arrives, and nothing else.
func (topo *topology) expect(step string, wanted ...stream) {
	topo.Helper()
	if len(wanted) > 0 {
		topo.waitUntilRunning(step)
	}
	topo.expectSince(topo.next(), step, wanted...)
}

// waitUntilRunning waits for user programs that l3afd itself does not wait for.
func (topo *topology) waitUntilRunning(step string) {
	topo.Helper()
	eventually(topo, func() string {
		for _, direction := range directions {
			status := exec.Command(mirroring, "--cmd=status", "--iface=eth0", "--direction="+direction)
			if said, _ := status.CombinedOutput(); string(said) != "RUNNING" {
				return fmt.Sprintf("%s: status of %s: %s", step, direction, said)
			}
		}
		return ""
	})
}

// expectSince checks all rounds from an earlier one on.
func (topo *topology) expectSince(first uint64, step string, wanted ...stream) {
	topo.Helper()
	before := topo.count()
	last := topo.wait(topo, rounds)
	eventually(topo, func() string {
		if wrong := topo.wrong(first, last, wanted); wrong != "" && len(wanted) > 0 {
			return step + ": " + wrong
		}
		return ""
	})
	// unwanted copies may still be on their way
	topo.flush(topo)
	if wrong := topo.wrong(first, last, wanted); wrong != "" {
		topo.Fatalf("%s: %s", step, wrong)
	}
	for counter, now := range topo.count() {
		if seen := now - before[counter]; seen < 2*rounds {
			topo.Fatalf("%s: %s saw only %d packets in %d rounds", step, counter, seen, rounds)
		}
	}
}

// count returns how many packets each neighbour has seen in each direction.
func (topo *topology) count() map[string]uint64 {
	topo.Helper()
	all := make(map[string]uint64)
	for _, name := range topo.neighbours {
		for _, direction := range directions {
			all[name+" "+direction] = counted(topo, topo.release, name, direction)
		}
	}
	return all
}

// expectNothingLeft checks what is left when all our programs have ended: no pin and no process. If
// l3afd told nobody to remove the tunnel device, the next stop removes it, unless somebody else
// made it.
func (topo *topology) expectNothingLeft(devices ...string) {
	topo.Helper()
	if left := ourPins(topo); len(left) > 0 {
		topo.Fatalf("pins are left behind: %q", left)
	}
	if left := userPrograms(); len(left) > 0 {
		topo.Fatalf("processes are left behind: %v", left)
	}
	run(topo, mirroring, "--cmd=stop", "--iface=eth0")
	if hasDevice("gue1") != slices.Contains(devices, "gue1") {
		topo.Fatalf("the tunnel device gue1 exists: %t", hasDevice("gue1"))
	}
}

// both returns the messages of a protocol in both directions.
func both(protocol string) []stream {
	return []stream{{"ingress", protocol}, {"egress", protocol}}
}

// eventually waits until our programs in both directions satisfy a condition.
func (topo *topology) eventually(complaint func(it shown, direction string) string) {
	topo.Helper()
	eventually(topo, func() string {
		all := topo.show(topo)
		if len(all) != len(directions) {
			return fmt.Sprintf("%d programs of ours run", len(all))
		}
		for i, direction := range directions {
			if still := complaint(all[i], direction); still != "" {
				return direction + ": " + still
			}
		}
		return ""
	})
}
