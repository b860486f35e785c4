// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"
)

type config struct {
	release
	path           string
	pidFile        string
	packages       string // where packages are unpacked
	logs           string // for user programs; empty: they are not told
	store          string // the file of what is deployed, to restore it
	bpffs          string
	repository     string
	chaining       bool
	maxRestarts    int
	pollInterval   time.Duration
	restAddress    string
	metricsAddress string
	debugAddress   string
}

// readConfig reads the settings of l3afd that we support, and a section of our own.
func readConfig(path string) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(name, "]")
		} else if key, value, ok := strings.Cut(line, ":"); ok {
			values[section+" "+key] = strings.TrimSpace(value)
		}
	}

	chaining, err := strconv.ParseBool(values["l3afd bpf-chaining-enabled"])
	if err != nil {
		return nil, fmt.Errorf("%s: bpf-chaining-enabled: %w", path, err)
	}
	release, ok := releases[values["launcher release"]]
	if !ok {
		return nil, fmt.Errorf("%s: no release %q is known", path, values["launcher release"])
	}
	hasTCX, err := strconv.ParseBool(values["launcher has-tcx"])
	if err != nil {
		return nil, fmt.Errorf("%s: has-tcx: %w", path, err)
	}
	release.tcx = release.tcx && hasTCX
	maxRestarts, err := strconv.Atoi(values["l3afd max-ebpf-restart-count"])
	if err != nil {
		return nil, fmt.Errorf("%s: max-ebpf-restart-count: %w", path, err)
	}
	pollInterval, err := time.ParseDuration(values["web ebpf-poll-interval"])
	if err != nil {
		return nil, fmt.Errorf("%s: ebpf-poll-interval: %w", path, err)
	}
	return &config{
		release:        release,
		path:           path,
		pidFile:        values["l3afd pid-file"],
		packages:       values["l3afd bpf-dir"],
		logs:           values["l3afd bpf-log-dir"],
		store:          values["l3af-config-store filename"],
		bpffs:          values["l3afd BpfMapDefaultPath"],
		repository:     strings.TrimPrefix(values["ebpf-repo url"], "file://"),
		chaining:       chaining,
		maxRestarts:    maxRestarts,
		pollInterval:   pollInterval,
		restAddress:    values["l3af-configs restapi-addr"],
		metricsAddress: values["web metrics-addr"],
		debugAddress:   values["ebpf-chain-debug addr"],
	}, nil
}

// writePID writes the launcher's process ID to its file.
func (c *config) writePID() {
	if err := os.WriteFile(c.pidFile, fmt.Append(nil, os.Getpid()), 0o644); err != nil {
		log.Fatal(err)
	}
}
