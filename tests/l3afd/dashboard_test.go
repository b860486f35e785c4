// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	_ "embed"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"l3afd/payload"
)

// recorded has the names and labels of the metrics of l3afd, as read from a running l3afd: one
// name{label,label} per line.
//
//go:embed testdata/metrics.txt
var recorded string

func recordedMetrics() []string {
	return strings.Split(strings.TrimSpace(recorded), "\n")
}

// published returns the labels of each metric.
func published(t testing.TB) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	for _, line := range recordedMetrics() {
		name, labels, ok := strings.Cut(strings.TrimSuffix(line, "}"), "{")
		if !ok {
			t.Fatalf("%q is not a name with labels", line)
		}
		all[name] = strings.Split(labels, ",")
	}
	return all
}

func TestDashboardAsksForWhatL3afdPublishes(t *testing.T) {
	metrics := published(t)
	asks := 0
	for _, panel := range readDashboard(t).Panels {
		if len(panel.Targets) == 0 {
			t.Errorf("%q has no query", panel.Title)
		}
		for _, target := range panel.Targets {
			for name, labels := range selected(target.Expr) {
				asks++
				there, ok := metrics[name]
				if !ok {
					t.Errorf("%q: l3afd publishes no %s", panel.Title, name)
				}
				for _, label := range labels {
					if !slices.Contains(there, label) {
						t.Errorf("%q: %s has no label %s", panel.Title, name, label)
					}
				}
			}
		}
	}
	if asks < 10 {
		t.Errorf("the dashboard reads only %d metrics", asks)
	}
}

var sample = regexp.MustCompile(`(?m)^(l3afd_\w+)\{(.*)\} `)
var label = regexp.MustCompile(`(\w+)="`)

// scraped returns what l3afd publishes now, in the format of the file.
func scraped(t testing.TB) []string {
	t.Helper()
	text, err := get(metricsURL)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, found := range sample.FindAllStringSubmatch(string(text), -1) {
		var labels []string
		for _, it := range label.FindAllStringSubmatch(found[2], -1) {
			labels = append(labels, it[1])
		}
		all = append(all, fmt.Sprintf("%s{%s}", found[1], strings.Join(labels, ",")))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// In a run in which everything happens that the dashboard shows, each of its queries has a result.
func TestDashboardShowsWhatHappens(t *testing.T) {
	if !isReal {
		t.Skip("only l3afd itself publishes all of its metrics: make test-l3afd L3AFD=<path>")
	}
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Skip("there is no prometheus to ask for what the dashboard shows")
	}
	topo := newTopology(t, settings{poll: time.Second})
	startPrometheus(t)
	began := time.Now()
	it := ours(t, "recommended")
	each(&it, func(program *payload.Program, _ string) {
		withRules(program, `{"rules": [
			{"name": "no-answers", "action": "exclude", "protocol": ["udp"], "src_port": ["7778"]},
			{"name": "no-health-checks", "action": "exclude", "protocol": ["udp"], "dst_port": ["7778"]},
			{"name": "some-udp", "protocol": ["udp"], "sample": {"one_in": 4}},
			{"name": "tcp", "protocol": ["tcp"]}
		]}`)
		program.StartArgs["max-rate"] = "2mbit"
	})
	topo.add(topo, it)
	topo.waitUntilRunning("add")
	for second := range 60 {
		// the rate varies, and exceeds the cap for a while
		packets := 200 + 150*(second%20)/10
		if second >= 40 && second < 50 {
			packets = 3000
		}
		blast(t, mirroredPort, packets)
		blast(t, excludedPort, 100)
		time.Sleep(time.Second)
	}
	each(&it, func(program *payload.Program, _ string) {
		program.UpdateArgs = payload.Args{"max-rate": "4mbit"}
	})
	topo.update(topo, it)
	each(&it, func(program *payload.Program, _ string) {
		program.StartArgs["max-rate"] = "3mbit"
	})
	topo.update(topo, it)
	topo.waitUntilRunning("update")
	wrong := it
	wrong.HostName = "another host"
	if answer, err := http.Post(restURL+"update", "application/json", strings.NewReader(asJSON(topo, []payload.Deployment{wrong}))); err == nil {
		answer.Body.Close()
	}
	time.Sleep(10 * time.Second)
	ended := time.Now()

	if there := scraped(t); !slices.Equal(there, recordedMetrics()) {
		t.Errorf("l3afd publishes\n%s\nbut testdata/metrics.txt has\n%s", strings.Join(there, "\n"), recorded)
	}
	for _, panel := range readDashboard(t).Panels {
		count := 0
		for _, target := range panel.Targets {
			count += countSeries(t, asked(target.Expr), began, ended)
		}
		if count == 0 {
			t.Errorf("%q shows nothing", panel.Title)
		}
	}
}
