// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
)

// rounds is how many rounds of production each look at the copies takes.
const rounds = 40

// world is a host with l3afd, production on eth0, and a collector behind eth1.
type world struct {
	testing.TB
	*daemon
	*traffic
	*collector
	chained    bool
	neighbours []string // who has to see every packet, too
}

// newWorld makes one that goes with the test.
func newWorld(t testing.TB, settings settings) *world {
	if settings.release == "" {
		settings.release = releases[len(releases)-1]
	}
	mountBPFFS(t)
	makeNetworks(t)
	if settings.release != unreleased || !hasTCX(t) {
		// whoever adds this qdisc, the kernel drops what the device is sending at that moment
		run(t, "tc", "qdisc", "add", "dev", "eth0", "clsact")
	}
	w := &world{
		TB:      t,
		chained: !settings.unchained,
		daemon:  startDaemon(t, settings),
		traffic: startTraffic(t),
	}
	w.collectAt("collector", collectorAddress+":6080")
	return w
}

// collectAt has the copies looked for at an address in a network namespace.
func (w *world) collectAt(netns, address string) {
	w.collector = startCollector(w, netns, address)
}

// expect looks at the rounds from now on: of the wanted messages, a copy arrives, and nothing else does.
func (w *world) expect(step string, wanted ...stream) {
	w.Helper()
	if len(wanted) > 0 {
		w.waitUntilRunning(step)
	}
	w.expectSince(w.next(), step, wanted...)
}

// waitUntilRunning waits for user programs that l3afd does not wait for.
func (w *world) waitUntilRunning(step string) {
	w.Helper()
	eventually(w, func() string {
		for _, direction := range directions {
			status := exec.Command(mirroring, "--cmd=status", "--iface=eth0", "--direction="+direction)
			if said, _ := status.CombinedOutput(); string(said) != "RUNNING" {
				return fmt.Sprintf("%s: status of %s: %s", step, direction, said)
			}
		}
		return ""
	})
}

// expectSince looks at the rounds from an earlier one on, without a gap.
func (w *world) expectSince(first uint64, step string, wanted ...stream) {
	w.Helper()
	before := w.count()
	last := w.wait(w, rounds)
	eventually(w, func() string {
		if wrong := w.wrong(first, last, wanted); wrong != "" && len(wanted) > 0 {
			return step + ": " + wrong
		}
		return ""
	})
	// what is too much may still be on its way
	w.flush(w)
	if wrong := w.wrong(first, last, wanted); wrong != "" {
		w.Fatalf("%s: %s", step, wrong)
	}
	for counter, now := range w.count() {
		if seen := now - before[counter]; seen < 2*rounds {
			w.Fatalf("%s: %s saw %d packets of %d rounds", step, counter, seen, rounds)
		}
	}
}

// count is what each neighbour has seen in each direction.
func (w *world) count() map[string]uint64 {
	w.Helper()
	all := make(map[string]uint64)
	for _, name := range w.neighbours {
		for _, direction := range directions {
			all[name+" "+direction] = counted(w, w.release, name, direction)
		}
	}
	return all
}

// expectNothingLeft looks at what is left when all our programs have ended: no pin and no process. A
// tunnel device that l3afd told nobody to remove is gone after the next stop, unless it is somebody's.
func (w *world) expectNothingLeft(devices ...string) {
	w.Helper()
	if left := ourPins(w); len(left) > 0 {
		w.Fatalf("left: %q", left)
	}
	if left := userPrograms(); len(left) > 0 {
		w.Fatalf("left: processes %v", left)
	}
	run(w, mirroring, "--cmd=stop", "--iface=eth0")
	if hasDevice("gue1") != slices.Contains(devices, "gue1") {
		w.Fatalf("gue1 is there: %t", hasDevice("gue1"))
	}
}

// both are the messages of a protocol in both directions.
func both(protocol string) []stream {
	return []stream{{"ingress", protocol}, {"egress", protocol}}
}

// eventually waits until our program in each direction is as it should be.
func (w *world) eventually(complaint func(it shown, direction string) string) {
	w.Helper()
	eventually(w, func() string {
		all := w.show(w)
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
