// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"l3afd/payload"
)

// settings are the differences in l3afd's configuration between tests.
type settings struct {
	release   string // empty: the newest
	unchained bool
	bpffs     string        // where l3afd pins; empty: the usual place
	logs      bool          // user programs are told where to log
	poll      time.Duration // between two checks of what runs; 0: none during the test
}

// daemon is l3afd, or the launcher in its place.
type daemon struct {
	release string
	config  string
	said    string // the file of its output
	log     string // the log file of mirroring
	pidFile string
}

// home is where l3afd is installed for graceful restarts. l3afd finds its version by trimming all
// characters of this path from the start of its binary's path. So a version must not begin with one of
// them.
const home = "/run/l3afd"

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
basepath: %[7]s
version-limit: 1

[tc-root]
ingress-object-file: tc_root_ingress.bpf.o
egress-object-file: tc_root_egress.bpf.o

[launcher]
release: %[8]s
has-tcx: %[9]t
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
	if settings.bpffs == "" {
		settings.bpffs = bpffs
	}
	text := fmt.Sprintf(
		configuration, folder, told, !settings.unchained, settings.bpffs, repository, settings.poll,
		home, settings.release, hasTCX(t))
	it := &daemon{
		release: settings.release,
		config:  filepath.Join(home, "latest", "l3afd.cfg"),
		said:    filepath.Join(folder, "said"),
		log:     filepath.Join(logs, "mirroring.log"),
		pidFile: filepath.Join(folder, "pid"),
	}
	_ = os.Remove(it.log) // from an earlier test
	it.install(t, text)
	t.Cleanup(func() {
		it.kill(t)
		if t.Failed() {
			t.Logf("the output of %s:\n%s\nthe log of mirroring:\n%s", l3afd, it.saidSoFar(), it.logged())
		}
		// a killed l3afd leaves processes, which the next test must not find
		killUserPrograms(t)
		// and a tunnel that the next BPF file system does not know
		_ = exec.Command("ip", "link", "delete", "gue1").Run()
	})
	// removes the sockets of an interrupted restart: with them, the next restart fails silently
	_ = os.Remove("/tmp/l3afd.sock")
	_ = os.Remove("/tmp/l3afstate.sock")
	it.start(t)
	return it
}

// install puts l3afd and its configuration into the directories that its guide to graceful restarts
// names.
func (it *daemon) install(t testing.TB, configuration string) {
	t.Helper()
	version := filepath.Join(home, "v1.0.0", "l3afd")
	failures := []error{
		os.RemoveAll(home),
		os.MkdirAll(version, 0o755),
		os.MkdirAll(filepath.Dir(it.config), 0o755),
		os.Symlink(l3afd, filepath.Join(version, "l3afd")),
		os.WriteFile(filepath.Join(version, "l3afd.cfg"), []byte(configuration), 0o644),
		os.Symlink(filepath.Join(version, "l3afd"), filepath.Join(home, "latest", "l3afd")),
		os.Symlink(filepath.Join(version, "l3afd.cfg"), it.config),
	}
	if err := errors.Join(failures...); err != nil {
		t.Fatal(err)
	}
}

// saidSoFar returns the output of l3afd.
func (it *daemon) saidSoFar() string {
	text, _ := os.ReadFile(it.said)
	return string(text)
}

// logged returns the log of mirroring.
func (it *daemon) logged() string {
	text, _ := os.ReadFile(it.log)
	return string(text)
}

// start starts the daemon, and waits until it has restored what is in its store.
func (it *daemon) start(t testing.TB) {
	t.Helper()
	said, err := os.OpenFile(it.said, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	process := exec.Command(filepath.Join(home, "latest", "l3afd"), "-config", it.config)
	process.Stdout, process.Stderr = said, said
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = process.Wait() }()
	it.waitUntilThere(t, 0)
}

// waitUntilThere waits until l3afd answers as a new process.
func (it *daemon) waitUntilThere(t testing.TB, before int) {
	t.Helper()
	eventually(t, func() string {
		if pid := it.pid(); pid == 0 || pid == before || isAlive(before) {
			return "l3afd has not started"
		}
		for _, url := range []string{chainURL, metricsURL, restURL} {
			if _, err := get(url); err != nil {
				return err.Error()
			}
		}
		return ""
	})
}

// pid returns the process that launches; 0: none.
func (it *daemon) pid() int {
	text, _ := os.ReadFile(it.pidFile)
	pid, err := strconv.Atoi(string(text))
	if err != nil || !isAlive(pid) {
		return 0
	}
	return pid
}

// kill kills the daemon without warning.
func (it *daemon) kill(t testing.TB) {
	t.Helper()
	pid := it.pid()
	if pid == 0 {
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		// the next daemon would take a zombie for a running one
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			return "l3afd has not ended"
		}
		return ""
	})
}

// restart replaces the daemon by another process, while everything in the kernel stays.
func (it *daemon) restart(t testing.TB) {
	t.Helper()
	before := it.pid()
	status, text := untilTaken(t, func() (*http.Response, error) {
		body := strings.NewReader(`{"hostname": "h", "version": "v1.0.0"}`)
		request, err := http.NewRequest(http.MethodPut, restURL+"restart", body)
		if err != nil {
			return nil, err
		}
		answer, err := client.Do(request)
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			// it may end before it answers
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}
		return answer, err
	})
	if status != http.StatusOK {
		t.Fatalf("restart: status %d: %s", status, text)
	}
	it.waitUntilThere(t, before)
}

// untilTaken repeats a request while l3afd says that it is restarting. It still says so for some
// time after it has begun to answer. Returns the status and the text of the last answer.
func untilTaken(t testing.TB, ask func() (*http.Response, error)) (int, string) {
	t.Helper()
	var status int
	var text []byte
	eventually(t, func() string {
		answer, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		status = answer.StatusCode
		text, _ = io.ReadAll(answer.Body)
		if status == http.StatusInternalServerError && strings.Contains(string(text), "in the middle of a restart") {
			return string(text)
		}
		return ""
	})
	return status, string(text)
}

// client gives up on an l3afd that no longer answers.
var client = http.Client{Timeout: patience}

// post posts a payload, which must be accepted.
func (it *daemon) post(t testing.TB, command, body string) {
	t.Helper()
	if status, text := it.tryToPost(t, command, body); status != http.StatusOK {
		t.Fatalf("%s: status %d: %s", command, status, text)
	}
}

// tryToPost posts a payload, which must be answered.
func (it *daemon) tryToPost(t testing.TB, command, body string) (int, string) {
	t.Helper()
	return untilTaken(t, func() (*http.Response, error) {
		return client.Post(restURL+command, "application/json", strings.NewReader(body))
	})
}

func (it *daemon) add(t testing.TB, all ...payload.Deployment) {
	t.Helper()
	it.post(t, "add", asJSON(t, all))
}

func (it *daemon) tryToAdd(t testing.TB, all ...payload.Deployment) {
	t.Helper()
	it.tryToPost(t, "add", asJSON(t, all))
}

func (it *daemon) update(t testing.TB, all ...payload.Deployment) {
	t.Helper()
	it.post(t, "update", asJSON(t, all))
}

// remove ends the programs of these names in both directions.
func (it *daemon) remove(t testing.TB, names ...string) {
	t.Helper()
	hostName, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	both := payload.Names{Ingress: names, Egress: names}
	it.post(t, "delete", asJSON(t, []payload.Removal{{HostName: hostName, Iface: "eth0", Names: both}}))
}

// shown is what the daemon reports of a program.
type shown struct {
	Program      payload.Program
	RestartCount int
	ProgID       uint32
}

// show returns the daemon's report of our program in each direction.
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

// metric reads a metric with this prefix and label.
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
	answer, err := client.Get(url)
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
