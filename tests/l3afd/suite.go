// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

// Package l3afd tests the package as l3afd launches it: from a repository, by payloads, under real
// traffic. What launches it is a small l3afd of our own, or the real one; `make test-l3afd` builds
// everything, and runs this in namespaces of its own.
package l3afd

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// where make test-l3afd says what is
var (
	// l3afd is the program that launches packages.
	l3afd = os.Getenv("LAUNCHER")
	// isReal tells whether that is l3afd itself. Some chains are beyond it.
	isReal = os.Getenv("L3AFD_IS_REAL") != ""
	// repository is the folder of all packages.
	repository = os.Getenv("REPOSITORY")
	// mirroring is the program under test, for what people do by hand.
	mirroring = os.Getenv("MIRRORING")
	// payloadScript is scripts/payload.
	payloadScript = os.Getenv("PAYLOAD_SCRIPT")
)

// run runs a command, which has to succeed, and returns what it printed.
func run(t testing.TB, name string, arguments ...string) string {
	t.Helper()
	said, err := exec.Command(name, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, arguments, err, said)
	}
	return string(said)
}

// patience is how long anything may take, the steps of l3afd itself included: it sleeps between looks.
const patience = 30 * time.Second

// eventually waits until there is nothing to complain about any more.
func eventually(t testing.TB, complaint func() string) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		still := complaint()
		if still == "" {
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("after %v: %s", patience, still)
		}
	}
}
