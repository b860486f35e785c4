// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"testing"

	"l3afd/payload"
)

// l3afd stops and starts user programs with a direction that no tc program has. It kills processes
// that run on all the same. What is loaded stays. (It cannot restart a program without an
// object_file. It takes the package's directory for the object, fails to load that, and gives up
// after the user program has ended.)
func TestGracefulRestartsLeaveNoGap(t *testing.T) {
	const restarts = 5
	eachVariant(t, func(t *testing.T, release string, variant variant) {
		if release == v200 {
			t.Skip("this release of l3afd has no graceful restart")
		}
		if variant.name == "without object_file" {
			t.Skip("l3afd cannot restart what is without an object_file")
		}
		classic := variant.style == "classic"
		topo := newTopology(t, settings{release: release, logs: true})
		topo.neighbours = []string{"before", "behind"}
		it := variant.payload(t, 3)
		each(&it, func(program *payload.Program, direction string) {
			program.MonitorMaps = counters(direction)
			programs := it.Programs.In(direction)
			*programs = append(*programs, neighbour("before", 2, direction), neighbour("behind", 4, direction))
		})
		topo.add(topo, it)
		topo.expect("add", both("tcp")...)

		first := topo.next()
		for i := range restarts {
			step := fmt.Sprintf("restart %d", i+1)
			before, counted := userPrograms(), topo.countsSent()
			topo.restart(topo)
			if !classic {
				eventually(topo, func() string {
					now := userPrograms()
					for pid := range before {
						delete(now, pid)
					}
					if len(now) != len(directions) {
						return fmt.Sprintf("%s: the processes were %v, and the new ones are %v", step, before, now)
					}
					return ""
				})
			}
			topo.expect(step, both("tcp")...)
			eventually(topo, func() string {
				for direction, now := range topo.countsSent() {
					if now <= counted[direction] {
						return fmt.Sprintf("%s: the counter of %s stays at %v", step, direction, now)
					}
				}
				return ""
			})
		}
		topo.expectSince(first, "all the while", both("tcp")...)

		each(&it, func(program *payload.Program, direction string) {
			program.UpdateArgs = payload.Args{}
			asks(program.UpdateArgs, "udp", direction)
		})
		topo.update(topo, it)
		topo.expect("other update_args", both("udp")...)
		topo.remove(topo, ourName)
		topo.expect("deleted")
		topo.expectNothingLeft()
		topo.remove(topo, topo.neighbours...)
	})
}

// countsSent returns l3afd's counts of sent packets, by direction. Without a process, the status
// publishes them.
func (topo *topology) countsSent() map[string]float64 {
	topo.Helper()
	topo.waitUntilRunning("counters")
	all := make(map[string]float64)
	for _, direction := range directions {
		name := fmt.Sprintf("%s_metrics_%d_scalar", direction, sent)
		all[direction], _ = topo.metric(topo, "l3afd_BPFMonitorMap", "map_name", name)
	}
	return all
}
