// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// folder is the directory in which a program's package is unpacked.
func (p *program) folder() string {
	name, _, _ := strings.Cut(p.Artifact, ".")
	return filepath.Join(p.packages, p.Name, p.Version, name)
}

// unpack fetches the package from the repository, unless it is there already.
func (p *program) unpack() error {
	if _, err := os.Stat(p.folder()); err == nil {
		return nil
	}
	platform, err := exec.Command("lsb_release", "-cs").Output()
	if err != nil {
		return fmt.Errorf("lsb_release -cs: %w", err)
	}
	archive := filepath.Join(
		p.repository, p.Name, p.Version, strings.TrimSpace(string(platform)), p.Artifact)
	into := filepath.Dir(p.folder())
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	tar := exec.Command("tar", "--extract", "--gzip", "--file", archive, "--directory", into)
	said, err := tar.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %s", archive, said)
	}
	return nil
}
