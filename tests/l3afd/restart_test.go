// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"testing"

	"l3afd/payload"
)

// l3afd stops and starts user programs with a direction that tc programs do not have, and kills what goes on
// nevertheless; what is loaded stays. (What is without an object_file, it cannot restart: it takes the folder
// of the package for the object, cannot load that, and gives up, after the user program has ended.)
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
		w := newWorld(t, settings{release: release, logs: true})
		w.neighbours = []string{"before", "behind"}
		it := variant.payload(t, 3)
		each(&it, func(program *payload.Program, direction string) {
			program.MonitorMaps = counters(direction)
			programs := it.Programs.In(direction)
			*programs = append(*programs, neighbour("before", 2, direction), neighbour("behind", 4, direction))
		})
		w.add(w, it)
		w.expect("add", both("tcp")...)

		first := w.next()
		for i := range restarts {
			step := fmt.Sprintf("restart %d", i+1)
			before, counted := userPrograms(), w.countsSent()
			w.restart(w)
			if !classic {
				eventually(w, func() string {
					now := userPrograms()
					for pid := range before {
						delete(now, pid)
					}
					if len(now) != len(directions) {
						return fmt.Sprintf("%s: there were the processes %v, now there are %v", step, before, now)
					}
					return ""
				})
			}
			w.expect(step, both("tcp")...)
			eventually(w, func() string {
				for direction, now := range w.countsSent() {
					if now <= counted[direction] {
						return fmt.Sprintf("%s: the counter of %s stays at %v", step, direction, now)
					}
				}
				return ""
			})
		}
		w.expectSince(first, "all the while", both("tcp")...)

		each(&it, func(program *payload.Program, direction string) {
			program.UpdateArgs = payload.Args{}
			asks(program.UpdateArgs, "udp", direction)
		})
		w.update(w, it)
		w.expect("other update_args", both("udp")...)
		w.remove(w, ourName)
		w.expect("deleted")
		w.expectNothingLeft()
		w.remove(w, w.neighbours...)
	})
}

// countsSent is what l3afd tells of the packets that were sent, by direction. Without a process, it is the
// status that publishes them.
func (w *world) countsSent() map[string]float64 {
	w.Helper()
	w.waitUntilRunning("counters")
	all := make(map[string]float64)
	for _, direction := range directions {
		name := fmt.Sprintf("%s_metrics_%d_scalar", direction, sent)
		all[direction], _ = w.metric(w, "l3afd_BPFMonitorMap", "map_name", name)
	}
	return all
}
