// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"strings"
	"testing"

	"l3afd/payload"
)

// variant is one way in which payloads run the package.
type variant struct {
	name  string
	style string // of scripts/payload
	shape func(program *payload.Program)
}

var variants = []variant{
	{name: "classic", style: "classic"},
	{name: "recommended", style: "recommended"},
	{name: "ended by a signal", style: "recommended", shape: endedBySignal},
	{name: "without object_file", style: "classic", shape: loadItself},
}

// endedBySignal makes l3afd check the process itself, and gives the process limits.
func endedBySignal(program *payload.Program) {
	program.CmdStop, program.StopArgs = "", nil
	program.CmdStatus, program.StatusArgs = "", nil
	program.CPU, program.Memory = 600, 256<<20
}

// loadItself makes the user program load the program.
func loadItself(program *payload.Program) {
	program.UserProgramDaemon = true
	program.ObjectFile = ""
}

// payload returns the variant's payload for a place in the chain.
func (it variant) payload(t testing.TB, seqID int) payload.Deployment {
	all := ours(t, it.style)
	each(&all, func(program *payload.Program, _ string) {
		program.SeqID = seqID
		program.CmdUpdate = ourProgram
		if it.shape != nil {
			it.shape(program)
		}
	})
	return all
}

func TestLifeInAChain(t *testing.T) {
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) { live(newTopology(t, settings{}), variant) })
	}
}

func TestLifeInTheMiddleOfAChain(t *testing.T) {
	eachVariant(t, func(t *testing.T, release string, variant variant) {
		topo := newTopology(t, settings{release: release, logs: true})
		topo.neighbours = []string{"before", "behind"}
		if isReal && variant.name == "without object_file" {
			// l3afd cannot chain a program behind one that it has not loaded
			topo.neighbours = topo.neighbours[:1]
		}
		live(topo, variant)
	})
}

func TestLifeWithoutAChain(t *testing.T) {
	eachVariant(t, func(t *testing.T, release string, variant variant) {
		live(newTopology(t, settings{release: release, unchained: true}), variant)
	})
}

func eachVariant(t *testing.T, test func(t *testing.T, release string, variant variant)) {
	eachRelease(t, func(t *testing.T, release string) {
		for _, variant := range variants {
			t.Run(variant.name, func(t *testing.T) { test(t, release, variant) })
		}
	})
}

// live goes through everything that l3afd does with a program, under traffic.
func live(topo *topology, variant variant) {
	const place = 3
	seqIDs := map[string]int{"before": 2, "behind": 4}
	it := variant.payload(topo, place)
	if topo.release != unreleased {
		// these releases ask for the status at once after an update, and take STOPPED for a failure
		each(&it, func(program *payload.Program, _ string) { program.CmdStatus, program.StatusArgs = "", nil })
	}
	for _, direction := range directions {
		programs := it.Programs.In(direction)
		for _, name := range topo.neighbours {
			*programs = append(*programs, neighbour(name, seqIDs[name], direction))
		}
	}

	topo.add(topo, it)
	topo.expect("add", both("tcp")...)

	each(&it, func(program *payload.Program, direction string) {
		asks(program.StartArgs, "udp", direction)
		program.UpdateArgs = nil
	})
	topo.update(topo, it)
	topo.expect("other start_args", both("udp")...)

	each(&it, func(program *payload.Program, direction string) {
		program.UpdateArgs = payload.Args{}
		asks(program.UpdateArgs, "tcp", direction)
	})
	topo.update(topo, it)
	topo.expect("other update_args", both("tcp")...)

	each(&it, func(program *payload.Program, _ string) { program.Version = "1.2.3" })
	if isReal && topo.chained {
		// an update would fail: l3afd waits for the map of the previous version
		topo.remove(topo, ourName)
		topo.add(topo, it)
	} else {
		topo.update(topo, it)
	}
	topo.expect("another version", both("tcp")...)
	for _, pin := range ourPins(topo) {
		if topo.release == unreleased && !strings.Contains(pin, "/1_2_3/") {
			topo.Fatalf("the previous version left a pin behind: %s", pin)
		}
	}

	if len(topo.neighbours) == 2 {
		places := []int{1, place, 9, place}
		if isReal {
			// l3afd fails to move a program to the end
			places = places[:2]
		}
		for _, seqID := range places {
			each(&it, func(program *payload.Program, _ string) { program.SeqID = seqID })
			topo.update(topo, it)
			topo.expect("another seq_id", both("tcp")...)
		}
	}

	// l3afd 2.1.0 cannot reload what it has pinned; 2.0.0 leaves its old filter on the interface
	if !isReal || topo.release == unreleased || topo.release == v200 && topo.chained {
		first := topo.next()
		topo.kill(topo)
		topo.expectSince(first, "l3afd killed", both("tcp")...)
		topo.start(topo)
		topo.expect("l3afd started over what it left", both("tcp")...)
	}

	each(&it, func(program *payload.Program, _ string) { program.AdminStatus = payload.Disabled })
	topo.update(topo, it)
	topo.expect("disabled")
	each(&it, func(program *payload.Program, _ string) { program.AdminStatus = payload.Enabled })
	topo.update(topo, it)
	topo.expect("enabled again", both("tcp")...)

	topo.remove(topo, ourName)
	topo.expect("deleted")
	topo.expectNothingLeft()
	topo.remove(topo, topo.neighbours...)
}
