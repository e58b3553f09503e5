package report

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
)

func TestQuantileIsTheNearestRank(t *testing.T) {
	samples := []float64{5, 1, 4, 2, 3}
	for p, want := range map[float64]float64{0: 1, 20: 1, 21: 2, 50: 3, 95: 5, 100: 5} {
		if is := Quantile(samples, p); is != want {
			t.Errorf("p%g is %g, not %g", p, is, want)
		}
	}
	if samples[0] != 5 {
		t.Error("the samples were sorted in place")
	}
	if !math.IsNaN(Quantile(nil, 50)) {
		t.Error("no samples have a median")
	}
}

func TestRoundedKeepsFourDigits(t *testing.T) {
	for value, want := range map[float64]float64{0: 0, 1234567: 1235000, 1.23456: 1.235, 0.000123456: 0.0001235, -12.3456: -12.35} {
		if is := rounded(value); math.Abs(is-want) > math.Abs(want)*1e-12 {
			t.Errorf("%v became %v, not %v", value, is, want)
		}
	}
}

func TestBetterIsTheirsByOursUnlessMoreIsBetter(t *testing.T) {
	for _, c := range []struct {
		theirs, ours float64
		higher       bool
		want         float64
	}{{10, 2, false, 5}, {10, 2, true, 0.2}, {0, 2, false, 0}, {2, 0, false, 0}, {math.NaN(), 1, false, 0}} {
		if is := Better(c.theirs, c.ours, c.higher); is != c.want {
			t.Errorf("%+v gave %g", c, is)
		}
	}
}

// run is a document of a peer and husk.
func run(theirs, ours Samples, podsOfTheirs, podsOfOurs int) *Document {
	d := &Document{Runtimes: []Runtime{{Name: "containerd", Pods: podsOfTheirs}, {Name: "husk", Pods: podsOfOurs}}}
	d.Summarize([]Samples{theirs, ours})
	return d
}

func TestSummaryHasQuantilesAndRatiosOfBoth(t *testing.T) {
	d := run(Samples{PodStart: {100, 200, 900}}, Samples{PodStart: {10, 20, 30}}, 0, 0)
	is := d.Runtimes[1].Results[PodStart]
	if is.P50 != 20 || is.P99 != 30 || is.Max != 30 || is.Ratio != 10 || is.Ratio99 != 30 || is.Unit != "ms" {
		t.Errorf("%+v", is)
	}
	if d.Runtimes[0].Results[PodStart].Ratio != 0 {
		t.Error("the baseline has a ratio to itself")
	}
}

func TestFiguresOfDifferentNumbersOfPodsAreNotCompared(t *testing.T) {
	theirs, ours := Samples{PodStats: {100}, PodStart: {100}}, Samples{PodStats: {10}, PodStart: {10}}
	results := run(theirs, ours, 120, 300).Runtimes[1].Results
	if results[PodStats].Ratio != 0 || results[PodStart].Ratio != 10 {
		t.Errorf("%+v", results)
	}
	if run(theirs, ours, 300, 300).Runtimes[1].Results[PodStats].Ratio != 10 {
		t.Error("the same number of pods was not compared")
	}
}

func TestDocumentSurvivesItsFile(t *testing.T) {
	d := run(Samples{PodStart: {1.5, 2}}, Samples{PodStart: {1}}, 0, 0)
	d.Runtimes[1].Series = map[string][]Point{SeriesStart: {{1, 2.5}, {300, 3}}}
	path := filepath.Join(t.TempDir(), "run.json")
	if err := d.Save(path); err != nil {
		t.Fatal(err)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if is := again.Runtimes[0].Results[PodStart]; len(is.Samples) != 2 || is.P50 != 1.5 {
		t.Errorf("%+v", is)
	}
	if is := again.Runtimes[1].Series[SeriesStart]; len(is) != 2 || is[1] != (Point{300, 3}) {
		t.Errorf("%+v", is)
	}
}

func TestNumbersOfAnArrayStandOnOneLine(t *testing.T) {
	text := "{\n \"samples\": [\n  1.5,\n  -2e-3\n ],\n \"names\": [\n  \"a\"\n ],\n \"at\": {\n  \"pods\": 5,\n  \"value\": 1.5\n }\n}"
	want := "{\n \"samples\": [1.5,-2e-3],\n \"names\": [\n  \"a\"\n ],\n \"at\": {\"pods\": 5, \"value\": 1.5}\n}"
	if is := string(joinNumbers([]byte(text))); is != want {
		t.Error(is)
	}
}

func TestTableHasALineForEachMeasuredRowWithItsGoal(t *testing.T) {
	d := run(Samples{PodStart: {100, 200}, DaemonFresh: {40}}, Samples{PodStart: {10, 20}, DaemonFresh: {20}}, 0, 0)
	d.Runtimes[0].Notes = []string{"was slow"}
	var out strings.Builder
	d.Table(&out)
	for _, want := range []string{
		"- containerd: was slow\n",
		"| **pod start** (the three above) | 100 / 200 / 200 / 200 ms | 10.0 / 20.0 / 20.0 / 20.0 ms | 10.0 (10.0) | 40 times, p99 30 times |\n",
		"| PSS of the daemon, fresh | 40.0 MiB | 20.0 MiB | 2.0 | ≤ 10 MiB |\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "ExecSync") {
		t.Error("a row without figures is there")
	}
}

func TestCheckNamesWhatMissesItsTarget(t *testing.T) {
	theirs := Samples{PodStart: {100}, ExecSync: {100}, PodOverhead: {5}}
	if err := run(theirs, Samples{PodStart: {5}, ExecSync: {5}, PodOverhead: {0.3}}, 0, 0).Check("husk"); err != nil {
		t.Error(err)
	}
	err := run(theirs, Samples{PodStart: {5}, ExecSync: {6}, PodOverhead: {0.5}}, 0, 0).Check("husk")
	if err == nil || !strings.Contains(err.Error(), "ExecSync is 16.7 times") || !strings.Contains(err.Error(), "PSS per pod is 0.50 MiB") {
		t.Error(err)
	}
	if run(theirs, theirs, 0, 0).Check("crio") == nil {
		t.Error("a runtime that is not there reaches its targets")
	}
}

func TestEveryRowHasItsOwnKeyAndLabel(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Rows {
		if seen[row.Key] || seen[row.Label] || row.Unit == "" {
			t.Errorf("%+v", row)
		}
		seen[row.Key], seen[row.Label] = true, true
	}
}
