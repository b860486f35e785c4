// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"l3afd/payload"
)

// settings are what differs between the tests in the configuration of l3afd.
type settings struct {
	unchained bool
	clsact    bool          // even where there is TCX; l3afd itself takes what is there
	logs      bool          // user programs are told where their logs go
	poll      time.Duration // between two looks at what runs; 0: none while the test runs
}

// daemon is l3afd, or what launches packages in its place.
type daemon struct {
	config  string
	said    string // the file that has what it says
	process *exec.Cmd
}

const (
	restURL    = "http://localhost:7080/l3af/configs/v1/"
	metricsURL = "http://localhost:8898/metrics"
	chainURL   = "http://localhost:8899/bpfs/eth0"
)

const configuration = `[l3afd]
pid-file: %[1]s/pid
datacenter: test
bpf-dir: %[1]s/packages
bpf-log-dir: %[2]s
kernel-major-version: 5
kernel-minor-version: 10
shutdown-timeout: 10s
http-client-timeout: 10s
max-ebpf-restart-count: 100
bpf-chaining-enabled: %[3]t
swagger-api-enabled: false
environment: DEV
BpfMapDefaultPath: %[4]s

[ebpf-repo]
url: file://%[5]s

[web]
metrics-addr: localhost:8898
ebpf-poll-interval: %[6]v
n-metric-samples: 20

[ebpf-chain-debug]
addr: localhost:8899
enabled: true

[l3af-configs]
restapi-addr: localhost:7080

[l3af-config-store]
filename: %[1]s/store.json

[mtls]
enabled: false

[graceful-restart]
version-limit: 1

[launcher]
tcx: %[7]t
`

func startDaemon(t testing.TB, settings settings) *daemon {
	folder := t.TempDir()
	logs, told := "/var/log/l3af", ""
	if settings.logs {
		logs = t.TempDir()
		told = logs
	}
	if settings.poll == 0 {
		settings.poll = time.Hour
	}
	text := fmt.Sprintf(
		configuration, folder, told, !settings.unchained, bpffs, repository, settings.poll,
		hasTCX(t) && !settings.clsact)
	log := filepath.Join(logs, "mirroring.log")
	_ = os.Remove(log) // another test's
	it := &daemon{config: filepath.Join(folder, "l3afd.cfg"), said: filepath.Join(folder, "said")}
	if err := os.WriteFile(it.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		it.kill(t)
		if t.Failed() {
			said, _ := os.ReadFile(it.said)
			logged, _ := os.ReadFile(log)
			t.Logf("what %s said:\n%s\nthe log of mirroring:\n%s", l3afd, said, logged)
		}
	})
	it.start(t)
	return it
}

// start starts it, and waits until it has restored what it finds in its store.
func (it *daemon) start(t testing.TB) {
	t.Helper()
	said, err := os.OpenFile(it.said, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	it.process = exec.Command(l3afd, "-config", it.config)
	it.process.Stdout, it.process.Stderr = said, said
	if err := it.process.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if _, err := get(chainURL); err != nil {
			return err.Error()
		}
		return ""
	})
}

// kill kills it as it is.
func (it *daemon) kill(t testing.TB) {
	t.Helper()
	if it.process.ProcessState != nil {
		return
	}
	if err := it.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = it.process.Wait()
}

// post posts a payload, which has to be taken.
func (it *daemon) post(t testing.TB, command, body string) {
	t.Helper()
	answer, err := http.Post(restURL+command, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", command, answer.Status, text)
	}
}

func (it *daemon) add(t testing.TB, all ...payload.Deployment) {
	t.Helper()
	it.post(t, "add", asJSON(t, all))
}

func (it *daemon) update(t testing.TB, all ...payload.Deployment) {
	t.Helper()
	it.post(t, "update", asJSON(t, all))
}

// remove ends programs of these names in both directions.
func (it *daemon) remove(t testing.TB, names ...string) {
	t.Helper()
	hostName, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	both := payload.Names{Ingress: names, Egress: names}
	it.post(t, "delete", asJSON(t, []payload.Removal{{HostName: hostName, Iface: "eth0", Names: both}}))
}

// shown is what it tells of a program.
type shown struct {
	Program      payload.Program
	RestartCount int
	ProgID       uint32
}

// show returns what it says of our program in each direction.
func (it *daemon) show(t testing.TB) []shown {
	t.Helper()
	text, err := get(chainURL)
	if err != nil {
		t.Fatal(err)
	}
	var all, ours []shown
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, it := range all {
		if it.Program.Name == ourName {
			ours = append(ours, it)
		}
	}
	return ours
}

// metric reads a metric, by the beginning of its name and one of its labels.
func (it *daemon) metric(t testing.TB, name, label, value string) (float64, bool) {
	t.Helper()
	text, err := get(metricsURL)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		labels, number, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(labels, name+"{") ||
			!strings.Contains(labels, fmt.Sprintf("ebpf_program=%q", ourName)) ||
			!strings.Contains(labels, fmt.Sprintf("%s=%q", label, value)) {
			continue
		}
		read, err := strconv.ParseFloat(number, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return read, true
	}
	return 0, false
}

func get(url string) ([]byte, error) {
	answer, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

func asJSON(t testing.TB, it any) string {
	t.Helper()
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(it); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
