// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

// Package l3afd tests the package as l3afd launches it: from a repository, by payloads, under real
// traffic. It is launched by the real l3afd or by our small one. `make test-l3afd` builds
// everything and runs this in namespaces of its own.
package l3afd

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// environment set by make test-l3afd
var (
	// l3afd is the program that launches packages.
	l3afd = os.Getenv("LAUNCHER")
	// isReal is whether that is l3afd itself. Some tests ask for more than it can do.
	isReal = os.Getenv("L3AFD_IS_REAL") != ""
	// releases are the releases of l3afd to launch with: all that our launcher can play, or the
	// real one's.
	releases = []string{v200, v210, unreleased}
	// repository is the directory of all packages.
	repository = os.Getenv("REPOSITORY")
	// mirroring is the program under test, for commands that people run by hand.
	mirroring = os.Getenv("MIRRORING")
	// payloadScript is scripts/payload.
	payloadScript = os.Getenv("PAYLOAD_SCRIPT")
)

// the releases of l3afd 2
const (
	v200       = "v2.0.0"
	v210       = "v2.1.0"
	unreleased = "main"
)

// releaseOf finds the release of an l3afd in its build information.
func releaseOf(path string) (string, error) {
	built, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", err
	}
	for _, it := range built.Deps {
		if it.Path != "github.com/cilium/ebpf" {
			continue
		}
		switch {
		case strings.HasPrefix(it.Version, "v0.12."):
			return v200, nil
		case strings.HasPrefix(it.Version, "v0.16."):
			return v210, nil
		}
	}
	return unreleased, nil
}

// eachRelease runs a test with each release.
func eachRelease(t *testing.T, test func(t *testing.T, release string)) {
	for _, release := range releases {
		t.Run(release, func(t *testing.T) { test(t, release) })
	}
}

// run runs a command, which must succeed, and returns its output.
func run(t testing.TB, name string, arguments ...string) string {
	t.Helper()
	said, err := exec.Command(name, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, arguments, err, said)
	}
	return string(said)
}

// patience is how long anything may take, including l3afd's own steps: it sleeps between checks.
const patience = 30 * time.Second

// eventually waits until there is no complaint left.
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
