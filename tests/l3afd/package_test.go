// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Hosts of l3afd may have any libc, often an older one than the build host's.
func TestTheProgramRunsWhereThereIsNothingElse(t *testing.T) {
	packages, err := filepath.Glob(filepath.Join(repository, ourName, "latest", "*", "*.tar.gz"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("not one package of the latest version: %q, %v", packages, err)
	}
	root := t.TempDir()
	run(t, "tar", "--extract", "--file", packages[0], "--directory", root, "--strip-components=1")

	command := exec.Command("/mirroring", "--help")
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("mirroring does not run with the package's files alone: %v\n%s", err, said)
	}
}
