// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const prometheusURL = "http://localhost:9090"

// startPrometheus starts a Prometheus that scrapes l3afd's metrics every second until the test
// ends.
func startPrometheus(t testing.TB) {
	t.Helper()
	folder := t.TempDir()
	config := filepath.Join(folder, "prometheus.yml")
	scrape := `
global: {scrape_interval: 1s}
scrape_configs: [{job_name: l3afd, static_configs: [{targets: ["localhost:8898"]}]}]
`
	if err := os.WriteFile(config, []byte(scrape), 0o644); err != nil {
		t.Fatal(err)
	}
	process := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+folder,
		"--web.listen-address=localhost:9090", "--log.level=error")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	eventually(t, func() string {
		if _, err := get(prometheusURL + "/-/ready"); err != nil {
			return err.Error()
		}
		return ""
	})
}

// countSeries evaluates an expression for every second between two times, and counts the resulting
// series.
func countSeries(t testing.TB, expr string, from, to time.Time) int {
	t.Helper()
	arguments := url.Values{
		"query": {expr},
		"start": {fmt.Sprint(from.Unix())},
		"end":   {fmt.Sprint(to.Unix())},
		"step":  {"1"},
	}
	text, err := get(prometheusURL + "/api/v1/query_range?" + arguments.Encode())
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Status string
		Data   struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %v %s", expr, err, text)
	}
	return len(answer.Data.Result)
}
