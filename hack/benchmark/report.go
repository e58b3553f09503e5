package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// row is a line of the table. More is better where higher is set.
type row struct {
	what   string
	label  string
	unit   string
	higher bool
}

var rows = []row{
	{"RunPodSandbox", "RunPodSandbox", "ms", false},
	{"CreateContainer", "CreateContainer", "ms", false},
	{"StartContainer", "StartContainer", "ms", false},
	{"pod start", "**pod start** (the three above)", "ms", false},
	{"ExecSync", "**ExecSync** `true`", "ms", false},
	{"StopContainer", "StopContainer", "ms", false},
	{"StopPodSandbox", "StopPodSandbox", "ms", false},
	{"RemovePodSandbox", "RemovePodSandbox", "ms", false},
	{"teardown", "**teardown** (the three above)", "ms", false},
	{"ListContainerStats", "ListContainerStats, 20 containers", "ms", false},
	{"PullImage", "**PullImage**, 8 layers, 214 MiB", "ms", false},
	{"pods per second", "pods started per second, 8 at once", "/s", true},
	{"PSS per pod", "PSS per pod without its container", "MiB", false},
	{"daemon PSS", "PSS of the daemon, 20 pods", "MiB", false},
}

// ratio says how many times better than the baseline a subject is, by the median; 0 when either has no samples.
func (r row) ratio(baseline, s *subject) float64 {
	theirs, ours := baseline.results.percentile(r.what, 50), s.results.percentile(r.what, 50)
	if r.higher {
		theirs, ours = ours, theirs
	}
	if !(ours > 0 && theirs > 0) {
		return 0
	}
	return theirs / ours
}

// printTable writes a Markdown table; the first subject is the baseline of the ratios.
func printTable(out io.Writer, subjects []*subject) {
	header, line := "| p50 / p95 |", "| --- |"
	for i, s := range subjects {
		header, line = header+" "+s.name+" |", line+" ---: |"
		if i > 0 {
			header, line = header+" ratio |", line+" ---: |"
		}
	}
	fmt.Fprintln(out, header+"\n"+line)
	for _, r := range rows {
		var cells strings.Builder
		for i, s := range subjects {
			samples := len(s.results[r.what])
			switch {
			case samples == 0:
				cells.WriteString(" |")
			case r.unit == "ms":
				fmt.Fprintf(&cells, " %s / %s ms |", number(s.results.percentile(r.what, 50)), number(s.results.percentile(r.what, 95)))
			default:
				fmt.Fprintf(&cells, " %s %s |", number(s.results.percentile(r.what, 50)), r.unit)
			}
			if ratio := r.ratio(subjects[0], s); i > 0 && ratio > 0 {
				fmt.Fprintf(&cells, " %.1f |", ratio)
			} else if i > 0 {
				cells.WriteString(" |")
			}
		}
		fmt.Fprintf(out, "| %s |%s\n", r.label, cells.String())
	}
}

func number(value float64) string {
	switch {
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	default:
		return fmt.Sprintf("%.2f", value)
	}
}

// machine describes where the numbers come from.
func machine() map[string]any {
	var uname syscall.Utsname
	kernel := ""
	if syscall.Uname(&uname) == nil {
		for _, c := range uname.Release {
			if c != 0 {
				kernel += string(rune(c))
			}
		}
	}
	model := "unknown"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return map[string]any{"cpus": runtime.NumCPU(), "cpu": model, "kernel": kernel, "time": time.Now().UTC().Format(time.RFC3339)}
}

func writeJSON(path string, subjects []*subject) error {
	type summary struct {
		Unit    string    `json:"unit"`
		P50     float64   `json:"p50"`
		P95     float64   `json:"p95"`
		Ratio   float64   `json:"ratio"`
		Samples []float64 `json:"samples"`
	}
	document := map[string]any{"machine": machine()}
	columns := []any{}
	for _, s := range subjects {
		measured := map[string]summary{}
		for _, r := range rows {
			if samples := s.results[r.what]; len(samples) > 0 {
				measured[r.what] = summary{r.unit, s.results.percentile(r.what, 50), s.results.percentile(r.what, 95), r.ratio(subjects[0], s), samples}
			}
		}
		columns = append(columns, map[string]any{"name": s.name, "version": s.version, "results": measured})
	}
	document["runtimes"] = columns
	data, err := json.MarshalIndent(document, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
