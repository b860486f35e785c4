// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"os"
	"testing"
)

// Without namespaces of their own, the tests would harm the host.
func TestMain(m *testing.M) {
	if l3afd == "" {
		fmt.Fprintln(os.Stderr, "these tests need namespaces of their own; run them by: make test-l3afd")
		os.Exit(1)
	}
	if isReal {
		release := os.Getenv("L3AFD_RELEASE")
		if release == "" {
			var err error
			if release, err = releaseOf(l3afd); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		fmt.Printf("the release of %s is %s\n", l3afd, release)
		releases = []string{release}
	}
	os.Exit(m.Run())
}
