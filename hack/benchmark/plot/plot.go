// Package plot draws what a run of the benchmark measured, as SVG files that need nothing else.
package plot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"husk.invalid/hack/benchmark/report"
)

// latencies and pulls are the rows of the two plots of distributions, in order.
var (
	latencies = []string{
		report.PodStart, report.Teardown, report.ContainerStart, report.ContainerEnd, report.ExecSync, report.ListStats, report.ListMany,
	}
	pulls = []string{report.PullGzip, report.PullZstd, report.PullBig, report.PullSmall}
)

// Write draws every plot into the directory that the document has figures for; an error when it has none.
func Write(d *report.Document, directory string) error {
	files := map[string]string{}
	if svg, ok := distributions(d, "How long a call takes", latencies); ok {
		files["latency.svg"] = svg
	}
	if svg, ok := distributions(d, "How long a pull takes", pulls); ok {
		files["pulls.svg"] = svg
	}
	if curves := starts(d); len(curves) > 0 {
		files["scaling.svg"] = chart("Start of a pod, by how many are running", d.Caption(),
			"three RPCs, median of five pods at each step; logarithmic axis", curves, milliseconds)
	}
	if curves := memory(d); len(curves) > 0 {
		files["memory.svg"] = chart("Memory of the runtime, by how many pods are running", d.Caption(),
			"PSS without the containers' own processes; solid: daemon and pods, dashed: the daemon alone; logarithmic axis", curves, mebibytes)
	}
	if len(files) == 0 {
		return errors.New("the run has nothing to plot: it needs the parts start, exec, lists, pull or scale")
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	for name, svg := range files {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func starts(d *report.Document) []curve {
	var curves []curve
	for _, r := range d.Runtimes {
		if points := r.Series[report.SeriesStart]; len(points) > 0 {
			curves = append(curves, curve{label: r.Name, colour: colour(r.Name), points: points})
		}
	}
	return curves
}

// memory has two curves for each runtime: all of it, and the daemon alone.
func memory(d *report.Document) []curve {
	var curves []curve
	for _, r := range d.Runtimes {
		daemon, pods := r.Series[report.SeriesDaemon], r.Series[report.SeriesPods]
		if len(daemon) == 0 || len(daemon) != len(pods) {
			continue
		}
		var all []report.Point
		for i := range daemon {
			all = append(all, report.Point{Pods: daemon[i].Pods, Value: daemon[i].Value + pods[i].Value})
		}
		curves = append(curves,
			curve{label: r.Name, colour: colour(r.Name), points: all},
			curve{label: r.Name + " daemon", colour: colour(r.Name), dashed: true, points: daemon})
	}
	return curves
}

// label is a row's name in words, without the table's emphasis.
func label(key string) string {
	for _, row := range report.Rows {
		if row.Key == key {
			return strings.NewReplacer("*", "", "`", "", " (the three above)", "").Replace(row.Label)
		}
	}
	return key
}
