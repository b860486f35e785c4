// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"syscall"
	"testing"
	"time"
)

// l3afd notices by cmd_status, or by checking the process.
func TestTheUserProgramIsKilledAndRestarted(t *testing.T) {
	for _, variant := range variants[1:] {
		t.Run(variant.name, func(t *testing.T) {
			topo := newTopology(t, settings{poll: time.Second})
			it := variant.payload(t, 1)
			program := (*it.Programs.In("ingress"))[0]
			loads := program.ObjectFile != ""
			if isReal && topo.release != unreleased && (program.CmdStatus != "" || !loads) {
				t.Skip("this release of l3afd takes a user program that has ended for an unloaded program, and starts both")
			}
			topo.add(topo, it)
			topo.expect("add", both("tcp")...)

			topo.eventually(func(it shown, direction string) string {
				if running, _ := topo.metric(topo, "l3afd_BPFRunning", "direction", direction); running != 1 {
					return "l3afd has not found it running"
				}
				if it.RestartCount > 0 {
					return "l3afd has started it again"
				}
				return ""
			})

			killed := make(map[string]int)
			first := topo.next()
			for _, direction := range directions {
				killed[direction] = userProgram(direction)
				if err := syscall.Kill(killed[direction], syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			topo.expectSince(first, "user program killed", both("tcp")...)
			restarts := 1
			if !loads {
				// the new user program loads another program, so l3afd concludes that the first one has ended
				restarts = 2
			}
			topo.eventually(func(it shown, direction string) string {
				pid := userProgram(direction)
				if it.RestartCount < restarts || pid == 0 || pid == killed[direction] || !isLoaded(it.ProgID) {
					return "l3afd has not started it again"
				}
				return ""
			})
			topo.expect("user program restarted", both("tcp")...)
			if loads {
				topo.expectSince(first, "all the while", both("tcp")...)
			}

			topo.remove(topo, ourName)
			topo.expect("deleted")
			topo.expectNothingLeft()
		})
	}
}

// l3afd's pins stay, but nothing is mirrored any more and no device is left.
func TestAStopByHandEndsWhatGoesOnWhenL3afdIsKilled(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			topo := newTopology(t, settings{unchained: true})
			topo.add(topo, variant.payload(t, 1))
			topo.expect("add", both("tcp")...)
			topo.kill(topo)
			run(t, mirroring, "--cmd=stop", "--iface=eth0")
			topo.expect("stopped by hand")
			if hasDevice("gue1") {
				t.Fatal("the tunnel device gue1 is left behind")
			}
		})
	}
}
