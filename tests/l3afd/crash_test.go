// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"syscall"
	"testing"
	"time"
)

// l3afd finds out by cmd_status, or by a look at the process.
func TestTheUserProgramIsKilledAndRestarted(t *testing.T) {
	for _, variant := range variants[1:] {
		t.Run(variant.name, func(t *testing.T) {
			w := newWorld(t, settings{poll: time.Second})
			it := variant.payload(t, 1)
			program := (*it.Programs.In("ingress"))[0]
			loads := program.ObjectFile != ""
			if isReal && w.release != unreleased && (program.CmdStatus != "" || !loads) {
				t.Skip("this release of l3afd takes a user program that has ended for an unloaded program, and starts both")
			}
			w.add(w, it)
			w.expect("add", both("tcp")...)

			w.eventually(func(it shown, direction string) string {
				if running, _ := w.metric(w, "l3afd_BPFRunning", "direction", direction); running != 1 {
					return "l3afd has not found it running"
				}
				if it.RestartCount > 0 {
					return "l3afd has started it again"
				}
				return ""
			})

			killed := make(map[string]int)
			first := w.next()
			for _, direction := range directions {
				killed[direction] = userProgram(direction)
				if err := syscall.Kill(killed[direction], syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			w.expectSince(first, "user program killed", both("tcp")...)
			restarts := 1
			if !loads {
				// then the program is another one, which l3afd takes for the end of the first
				restarts = 2
			}
			w.eventually(func(it shown, direction string) string {
				pid := userProgram(direction)
				if it.RestartCount < restarts || pid == 0 || pid == killed[direction] || !isLoaded(it.ProgID) {
					return "l3afd has not started it again"
				}
				return ""
			})
			w.expect("user program restarted", both("tcp")...)
			if loads {
				w.expectSince(first, "all the while", both("tcp")...)
			}

			w.remove(w, ourName)
			w.expect("deleted")
			w.expectNothingLeft()
		})
	}
}

// What l3afd has pinned stays, but nothing is mirrored any more, and no device is left.
func TestAStopByHandEndsWhatGoesOnWhenL3afdIsKilled(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			w := newWorld(t, settings{unchained: true})
			w.add(w, variant.payload(t, 1))
			w.expect("add", both("tcp")...)
			w.kill(w)
			run(t, mirroring, "--cmd=stop", "--iface=eth0")
			w.expect("stopped by hand")
			if hasDevice("gue1") {
				t.Fatal("left: gue1")
			}
		})
	}
}
