package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"husk.invalid/hack/benchmark/report"
)

func TestLogScaleHoldsEveryValueBetweenRoundEnds(t *testing.T) {
	s := logScale(0.7, 340, 100, 700)
	if s.low != 0.5 || s.high != 500 {
		t.Errorf("%+v", s)
	}
	if s.at(0.5) != 100 || s.at(500) != 700 || s.at(0.1) != 100 || s.at(9999) != 700 {
		t.Errorf("the ends are not where they should be: %g %g", s.at(0.5), s.at(500))
	}
	// A factor has the same length everywhere.
	if a, b := s.at(10)-s.at(1), s.at(100)-s.at(10); math.Abs(a-b) > 1e-9 {
		t.Errorf("%g and %g", a, b)
	}
	if exact := logScale(1, 100, 0, 1); exact.low != 1 || exact.high != 100 {
		t.Errorf("%+v", exact)
	}
}

func TestTicksOfALogScaleArePowersAndMoreWhereItIsShort(t *testing.T) {
	if is := logScale(1, 10000, 0, 1).ticks(); !slices.Equal(is, []float64{1, 10, 100, 1000, 10000}) {
		t.Error(is)
	}
	if is := logScale(1, 50, 0, 1).ticks(); !slices.Equal(is, []float64{1, 2, 5, 10, 20, 50}) {
		t.Error(is)
	}
}

func TestLinearScaleEndsAtATick(t *testing.T) {
	s := linearScale(300, 0, 600)
	if is := s.ticks(); !slices.Equal(is, []float64{0, 50, 100, 150, 200, 250, 300}) || s.at(150) != 300 {
		t.Errorf("%v %+v", is, s)
	}
	if is := linearScale(27, 0, 1).ticks(); is[len(is)-1] != 30 {
		t.Error(is)
	}
	if s := linearScale(0, 0, 1); !(s.high > 0) {
		t.Errorf("%+v", s)
	}
}

func TestLabelsAreSpreadUntilNoneOverlaps(t *testing.T) {
	is := spread([]float64{100, 101, 102, 300}, 17, 84)
	for i := 1; i < len(is); i++ {
		if is[i]-is[i-1] < 17-1e-3 {
			t.Errorf("%v", is)
		}
	}
	if is[3] != 300 {
		t.Errorf("a label that overlapped none has moved: %v", is)
	}
	if is := spread([]float64{84, 85}, 17, 84); is[0] < 84 {
		t.Errorf("a label has left the paper: %v", is)
	}
}

func TestValuesAreSaidAsAPersonWould(t *testing.T) {
	for _, c := range [][2]string{
		{milliseconds(0.5), "0.5 ms"}, {milliseconds(12.34), "12.3 ms"}, {milliseconds(999.7), "1 s"}, {milliseconds(20000), "20 s"},
		{mebibytes(17.04), "17 MiB"}, {mebibytes(1536), "1.5 GiB"}, {pair(5, 1200), "0.005 / 1.2 s"}, {short(1234), "1230"},
		{times(22.4), "22 ×"}, {times(7.05), "7.0 ×"}, {times(0.437), "0.44 ×"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, not %q", c[0], c[1])
		}
	}
}

func example() *report.Document {
	d := &report.Document{
		Machine:  report.Machine{CPU: "a <fast> processor", CPUs: 2},
		Runtimes: []report.Runtime{{Name: "containerd"}, {Name: "husk"}},
	}
	d.Summarize([]report.Samples{
		{report.PodStart: {200, 250, 300}, report.PullGzip: {6000}}, {report.PodStart: {9, 10, 11}, report.PullGzip: {2000}},
	})
	for i, name := range []string{report.SeriesStart, report.SeriesDaemon, report.SeriesPods} {
		for j := range d.Runtimes {
			if d.Runtimes[j].Series == nil {
				d.Runtimes[j].Series = map[string][]report.Point{}
			}
			d.Runtimes[j].Series[name] = []report.Point{{Pods: 5, Value: float64(1 + i)}, {Pods: 300, Value: float64(20 + j)}}
		}
	}
	return d
}

func TestEveryPlotIsWellFormedAndHasAGroundOfItsOwn(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "plots")
	if err := Write(example(), directory); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"latency.svg", "pulls.svg", "scaling.svg", "memory.svg"} {
		text, err := os.ReadFile(filepath.Join(directory, name))
		if err != nil {
			t.Fatal(err)
		}
		decoder := xml.NewDecoder(strings.NewReader(string(text)))
		for err == nil {
			_, err = decoder.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range []string{`fill="#ffffff"`, "containerd", "husk", "a &lt;fast&gt; processor"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s has no %s", name, want)
			}
		}
		if strings.Contains(string(text), "NaN") || strings.Contains(string(text), "Inf") {
			t.Errorf("%s has a place that is no number", name)
		}
	}
}

func TestARunWithNothingToPlotIsSaidSo(t *testing.T) {
	if err := Write(&report.Document{}, t.TempDir()); err == nil {
		t.Error("nothing was drawn and nobody said so")
	}
}
