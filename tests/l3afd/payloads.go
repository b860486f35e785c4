// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"l3afd/payload"
)

const (
	ourName    = "traffic-mirroring"
	ourProgram = "mirroring"
)

var directions = []string{"ingress", "egress"}

// ours is the output of scripts/payload in one of its styles, classic or recommended. It mirrors
// both directions of eth0 to the collector.
func ours(t testing.TB, style string) payload.Deployment {
	t.Helper()
	script := exec.Command(payloadScript)
	script.Env = append(os.Environ(),
		"STYLE="+style, "IFACE=eth0", "HOST_ADDRESS="+hostAddress, "COLLECTOR="+collectorAddress, "REDIRECT_TO=eth1")
	text, err := script.Output()
	if err != nil {
		t.Fatalf("%s: %v", payloadScript, err)
	}
	var all []payload.Deployment
	if err := json.Unmarshal(text, &all); err != nil || len(all) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	return all[0]
}

// each changes our program in each direction.
func each(it *payload.Deployment, change func(program *payload.Program, direction string)) {
	for _, direction := range directions {
		for _, program := range *it.Programs.In(direction) {
			if program.Name == ourName {
				change(program, direction)
			}
		}
	}
}

// neighbour is a program that counts packets, with this name and at this place in the chain.
func neighbour(name string, seqID int, direction string) *payload.Program {
	return &payload.Program{
		Name:              name,
		SeqID:             seqID,
		Artifact:          fmt.Sprintf("l3af_%s.tar.gz", name),
		MapName:           fmt.Sprintf("%s_%s_jmp_table", name, direction),
		Version:           "latest",
		AdminStatus:       payload.Enabled,
		ProgType:          "tc",
		ObjectFile:        fmt.Sprintf("neighbour_%s.bpf.o", direction),
		EntryFunctionName: fmt.Sprintf("%s_%s_pass", name, direction),
	}
}

// asks sets arguments that match the messages of a protocol in a direction.
func asks(arguments payload.Args, protocol, direction string) {
	ports := map[string]string{"tcp": fmt.Sprint(tcpPort), "udp": fmt.Sprint(udpPort)}
	arguments["protocol"] = protocol
	if direction == "ingress" {
		arguments["dst-port"] = ports[protocol]
	} else {
		arguments["src-port"] = ports[protocol]
	}
}

// withRules selects by rules what is mirrored. Only the destination is left to flags.
func withRules(program *payload.Program, rules string) {
	program.RulesFile, program.Rules = "rules.json", rules
	program.UpdateArgs = nil
	for _, filter := range []string{"src-address", "dst-address", "src-port", "dst-port", "protocol"} {
		delete(program.StartArgs, filter)
	}
}

// artifact is the archive of a package in the repository.
func artifact(t testing.TB, name, version string) string {
	t.Helper()
	platform := strings.TrimSpace(run(t, "lsb_release", "-cs"))
	archive := fmt.Sprintf("l3af_%s.tar.gz", strings.ReplaceAll(name, "-", "_"))
	return filepath.Join(repository, name, version, platform, archive)
}

// publishAs puts our package with some change into the repository, as another version.
func publishAs(t testing.TB, version string, change func(folder string)) {
	t.Helper()
	stage := t.TempDir()
	run(t, "tar", "--extract", "--gzip", "--directory", stage, "--file", artifact(t, ourName, "latest"))
	archive := artifact(t, ourName, version)
	folder, _, _ := strings.Cut(filepath.Base(archive), ".")
	change(filepath.Join(stage, folder))
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "tar", "--create", "--gzip", "--directory", stage, "--file", archive, folder)
}
