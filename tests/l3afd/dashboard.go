// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// dashboard is the part of grafana-dashboard.json that we read.
type dashboard struct {
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
}

// dashboardFile is its path, set by make test-l3afd.
var dashboardFile = os.Getenv("DASHBOARD")

func readDashboard(t testing.TB) dashboard {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var it dashboard
	if err := json.Unmarshal(text, &it); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	return it
}

// asked replaces Grafana's variables: everything, over the last 15 s.
func asked(expr string) string {
	return strings.NewReplacer("$host", ".*", "$interface", ".*", "$__rate_interval", "15s").Replace(expr)
}

var (
	selector = regexp.MustCompile(`\b(l3afd_\w+)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
)

// selected returns the metrics that a query reads, each with the labels that the query names.
func selected(expr string) map[string][]string {
	all := make(map[string][]string)
	for _, found := range selector.FindAllStringSubmatch(expr, -1) {
		for _, label := range matcher.FindAllStringSubmatch(found[2], -1) {
			all[found[1]] = append(all[found[1]], label[1])
		}
	}
	return all
}
