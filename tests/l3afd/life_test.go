// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"strings"
	"testing"

	"l3afd/payload"
)

// variant is a way in which payloads have the package run.
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

// endedBySignal has l3afd look at the process itself, which is to live within limits.
func endedBySignal(program *payload.Program) {
	program.CmdStop, program.StopArgs = "", nil
	program.CmdStatus, program.StatusArgs = "", nil
	program.CPU, program.Memory = 600, 256<<20
}

// loadItself has the user program load the program.
func loadItself(program *payload.Program) {
	program.UserProgramDaemon = true
	program.ObjectFile = ""
}

// payload is what the variant has l3afd run at a place of the chain.
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
		t.Run(variant.name, func(t *testing.T) { live(newWorld(t, settings{}), variant) })
	}
}

func TestLifeInTheMiddleOfAChain(t *testing.T) {
	eachVariant(t, func(t *testing.T, release string, variant variant) {
		w := newWorld(t, settings{release: release, logs: true})
		w.neighbours = []string{"before", "behind"}
		if isReal && variant.name == "without object_file" {
			// l3afd chains nothing behind a program that it has not loaded
			w.neighbours = w.neighbours[:1]
		}
		live(w, variant)
	})
}

func TestLifeWithoutAChain(t *testing.T) {
	eachVariant(t, func(t *testing.T, release string, variant variant) {
		live(newWorld(t, settings{release: release, unchained: true}), variant)
	})
}

func eachVariant(t *testing.T, test func(t *testing.T, release string, variant variant)) {
	eachRelease(t, func(t *testing.T, release string) {
		for _, variant := range variants {
			t.Run(variant.name, func(t *testing.T) { test(t, release, variant) })
		}
	})
}

// live goes through all that l3afd does with a program, under traffic.
func live(w *world, variant variant) {
	const place = 3
	seqIDs := map[string]int{"before": 2, "behind": 4}
	it := variant.payload(w, place)
	for _, direction := range directions {
		programs := it.Programs.In(direction)
		for _, name := range w.neighbours {
			*programs = append(*programs, neighbour(name, seqIDs[name], direction))
		}
	}

	w.add(w, it)
	w.expect("add", both("tcp")...)

	each(&it, func(program *payload.Program, direction string) {
		asks(program.StartArgs, "udp", direction)
		program.UpdateArgs = nil
	})
	w.update(w, it)
	w.expect("other start_args", both("udp")...)

	each(&it, func(program *payload.Program, direction string) {
		program.UpdateArgs = payload.Args{}
		asks(program.UpdateArgs, "tcp", direction)
	})
	w.update(w, it)
	w.expect("other update_args", both("tcp")...)

	each(&it, func(program *payload.Program, _ string) { program.Version = "1.2.3" })
	if isReal && w.chained {
		// an update would fail: l3afd waits for the map of the version before
		w.remove(w, ourName)
		w.add(w, it)
	} else {
		w.update(w, it)
	}
	w.expect("another version", both("tcp")...)
	for _, pin := range ourPins(w) {
		if w.release == unreleased && !strings.Contains(pin, "/1_2_3/") {
			w.Fatalf("left of the version before: %s", pin)
		}
	}

	if len(w.neighbours) == 2 {
		places := []int{1, place, 9, place}
		if isReal {
			// l3afd fails to move one to the end
			places = places[:2]
		}
		for _, seqID := range places {
			each(&it, func(program *payload.Program, _ string) { program.SeqID = seqID })
			w.update(w, it)
			w.expect("another seq_id", both("tcp")...)
		}
	}

	// l3afd 2.1.0 cannot load again what it has pinned; 2.0.0 leaves the filter on the interface that it had
	if !isReal || w.release == unreleased || w.release == v200 && w.chained {
		first := w.next()
		w.kill(w)
		w.expectSince(first, "l3afd killed", both("tcp")...)
		w.start(w)
		w.expect("l3afd started over what it left", both("tcp")...)
	}

	each(&it, func(program *payload.Program, _ string) { program.AdminStatus = payload.Disabled })
	w.update(w, it)
	w.expect("disabled")
	each(&it, func(program *payload.Program, _ string) { program.AdminStatus = payload.Enabled })
	w.update(w, it)
	w.expect("enabled again", both("tcp")...)

	w.remove(w, ourName)
	w.expect("deleted")
	w.expectNothingLeft()
	w.remove(w, w.neighbours...)
}
