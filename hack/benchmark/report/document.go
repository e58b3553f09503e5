// Package report is what a run of the benchmark leaves: its JSON document, the table of it, and the comparison of two.
//
// It measures nothing and does no I/O but that of the document's file.
package report

import (
	"encoding/json"
	"fmt"
	"os"
)

// Document is one run.
type Document struct {
	Machine Machine `json:"machine"`
	// Homes says where the runtimes' files were: "root" (images, writable layers) and "state" (records, sockets).
	Homes      map[string]Home `json:"homes"`
	Parameters map[string]any  `json:"parameters"`
	// Runtimes are the columns of the table; the first is the baseline of all ratios.
	Runtimes []Runtime `json:"runtimes"`
}

// Machine is where the figures come from.
type Machine struct {
	CPU     string `json:"cpu"`
	CPUs    int    `json:"cpus"`
	Memory  int    `json:"memory_mib"`
	Kernel  string `json:"kernel"`
	Cgroups string `json:"cgroups"`
	Time    string `json:"time"`
}

// Home is a directory and the kind of filesystem that it is on.
type Home struct {
	Path       string `json:"path"`
	Filesystem string `json:"filesystem"`
}

// Runtime is what was measured of one runtime.
type Runtime struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Pods is how many pods the scaling part reached; 0 when it did not run.
	Pods int `json:"pods,omitempty"`
	// Notes are what a reader must know of this column: parts that were cut short or could not run.
	Notes   []string           `json:"notes,omitempty"`
	Results map[string]Result  `json:"results,omitempty"`
	Series  map[string][]Point `json:"series,omitempty"`
	Counts  map[string]Count   `json:"counts,omitempty"`
}

// Result is the distribution of what was measured, in Unit.
type Result struct {
	Unit string  `json:"unit"`
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
	// Ratio and Ratio99 say how many times better than the baseline p50 and p99 are; 0 where that means nothing.
	Ratio   float64   `json:"ratio,omitempty"`
	Ratio99 float64   `json:"ratio99,omitempty"`
	Samples []float64 `json:"samples"`
}

// Point is a value with so many pods running.
type Point struct {
	Pods  int     `json:"pods"`
	Value float64 `json:"value"`
}

// Count is what one call of an RPC costs in the daemon, the pod's monitor and their children, whatever the clock says.
type Count struct {
	SystemCalls float64            `json:"system_calls"`
	ByName      map[string]float64 `json:"by_name"`
	// Instructions is 0 where the processor's counters cannot be read.
	Instructions float64 `json:"instructions,omitempty"`
}

// Samples are the raw values of one runtime, by row.
type Samples map[string][]float64

// Summarize fills the runtimes' results. samples are in the order of the runtimes.
func (d *Document) Summarize(samples []Samples) {
	for i := range d.Runtimes {
		d.Runtimes[i].Results = map[string]Result{}
		for _, row := range Rows {
			raw := samples[i][row.Key]
			if len(raw) == 0 {
				continue
			}
			result := Result{
				Unit: row.Unit, P50: rounded(Quantile(raw, 50)), P95: rounded(Quantile(raw, 95)),
				P99: rounded(Quantile(raw, 99)), Max: rounded(Quantile(raw, 100)),
			}
			for _, sample := range raw {
				result.Samples = append(result.Samples, rounded(sample))
			}
			if theirs := samples[0][row.Key]; i > 0 && d.comparable(row, i) {
				result.Ratio = rounded(Better(Quantile(theirs, 50), Quantile(raw, 50), row.Higher))
				if row.Unit == "ms" {
					result.Ratio99 = rounded(Better(Quantile(theirs, 99), Quantile(raw, 99), row.Higher))
				}
			}
			d.Runtimes[i].Results[row.Key] = result
		}
	}
}

// comparable: figures of so many pods say nothing beside those of fewer.
func (d *Document) comparable(row Row, i int) bool {
	return !row.Scaled || d.Runtimes[i].Pods == d.Runtimes[0].Pods
}

// Load reads a document.
func Load(path string) (*Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := &Document{}
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// Save writes the document. Samples stand on one line each, so that a commit of it can be read.
func (d *Document) Save(path string) error {
	data, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(joinNumbers(data), '\n'), 0o644)
}
