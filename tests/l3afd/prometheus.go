// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const prometheusURL = "http://localhost:9090"

// startPrometheus has a Prometheus read l3afd's metrics each second, until the test ends.
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

// series is one line of an answer.
type series struct {
	labels map[string]string
	times  []float64 // seconds since 1970
	values []float64
}

// query asks for an expression from one time to another, each second.
func query(t testing.TB, expr string, from, to time.Time) []series {
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
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %v %s", expr, err, text)
	}
	var all []series
	for _, result := range answer.Data.Result {
		it := series{labels: result.Metric}
		for _, pair := range result.Values {
			value, err := strconv.ParseFloat(pair[1].(string), 64)
			if err != nil {
				t.Fatalf("%s: %v", expr, err)
			}
			it.times = append(it.times, pair[0].(float64))
			it.values = append(it.values, value)
		}
		all = append(all, it)
	}
	return all
}
