// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"l3afd/payload"
)

// l3afd waits for the end of a user program that leaves no process, and answers nobody meanwhile.
// So a program that fails must end.
func TestWhatCannotBeLaunchedEndsWithAnError(t *testing.T) {
	const elsewhere = "/run/bpf"
	cases := []struct {
		name     string
		settings settings
		version  string // of the package
		folder   func(t *testing.T, folder string)
		shape    func(program *payload.Program, direction string)
	}{
		{
			name:     "another BpfMapDefaultPath",
			settings: settings{bpffs: elsewhere},
			version:  "latest",
		},
		{
			name:    "objects of another package",
			version: "mixed",
			folder: func(t *testing.T, folder string) {
				run(t, "tar", "--extract", "--gzip", "--strip-components=1", "--directory", folder,
					"--file", artifact(t, "before", "latest"))
			},
			shape: func(program *payload.Program, direction string) {
				theirs := neighbour("before", 1, direction)
				program.ObjectFile = theirs.ObjectFile
				program.MapName = theirs.MapName
				program.EntryFunctionName = theirs.EntryFunctionName
				program.MonitorMaps = nil
			},
		},
		{
			name:    "no maps",
			version: "no-maps",
			folder:  startsWithout("*gress_*"),
			shape:   startsBy,
		},
		{
			name:    "a map is missing",
			version: "no-ports",
			folder:  startsWithout("*gress_dst_port"),
			shape:   startsBy,
		},
	}
	eachRelease(t, func(t *testing.T, release string) {
		for _, it := range cases {
			for _, style := range []string{"classic", "recommended"} {
				t.Run(it.name+", "+style, func(t *testing.T) {
					if it.folder != nil {
						publishAs(t, it.version, func(folder string) { it.folder(t, folder) })
					}
					settings := it.settings
					settings.release, settings.logs, settings.unchained = release, true, true
					if settings.bpffs != "" {
						mountElsewhere(t, settings.bpffs)
					}
					topo := newTopology(t, settings)
					all := ours(t, style)
					each(&all, func(program *payload.Program, direction string) {
						program.Version = it.version
						// with these, l3afd itself would notice the failure
						program.UpdateArgs = nil
						program.CmdStatus, program.StatusArgs = "", nil
						if it.shape != nil {
							it.shape(program, direction)
						}
					})
					topo.tryToAdd(topo, all)
					eventually(topo, func() string {
						if errors := strings.Count(topo.logged(), " ERROR "); errors != len(directions) {
							return fmt.Sprintf("%d errors in the log:\n%s", errors, topo.logged())
						}
						if left := userPrograms(); len(left) > 0 {
							return fmt.Sprintf("processes are left behind: %v", left)
						}
						return ""
					})
					if exits := strings.Count(topo.saidSoFar(), "exit status 1"); style == "classic" && exits < len(directions) {
						t.Fatalf("l3afd reports only %d failures of user programs", exits)
					}
					topo.expect("nothing can be mirrored")
					if hasDevice("gue1") {
						t.Fatal("the tunnel device gue1 is left behind")
					}
					topo.remove(topo, ourName)
				})
			}
		}
	})
}

// The error says what to do.
func TestAnotherBpfMapDefaultPathIsGivenByAFlag(t *testing.T) {
	const elsewhere = "/run/bpf"
	eachRelease(t, func(t *testing.T, release string) {
		mountElsewhere(t, elsewhere)
		topo := newTopology(t, settings{release: release, bpffs: elsewhere})
		all := ours(t, "classic")
		each(&all, func(program *payload.Program, _ string) { program.StartArgs["bpffs"] = elsewhere })
		topo.add(topo, all)
		topo.expectSince(topo.next(), "add", both("tcp")...)
		topo.remove(topo, ourName)
		topo.expect("deleted")
	})
}

// mountElsewhere mounts a BPF file system at another place until the test ends.
func mountElsewhere(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", path, "bpf", 0, ""); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	})
}

// starter is a user program that deletes pins before it runs ours.
const starter = "starter"

// startsWithout puts a starter into a package.
func startsWithout(pins string) func(t *testing.T, folder string) {
	return func(t *testing.T, folder string) {
		script := fmt.Sprintf("#!/bin/sh\nfind %s/tc/globals/eth0 -name '%s' -delete\nexec \"${0%%/*}/%s\" \"$@\"\n",
			bpffs, pins, ourProgram)
		if err := os.WriteFile(filepath.Join(folder, starter), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func startsBy(program *payload.Program, _ string) {
	program.CmdStart = starter
}
