package report

import (
	"strings"
	"testing"
)

// withRatio is a run in which husk's pod start is so many times faster.
func withRatio(ratio float64) *Document {
	return run(Samples{PodStart: {1000}}, Samples{PodStart: {1000 / ratio}}, 0, 0)
}

func TestARatioMayFallByATenthAndNoMore(t *testing.T) {
	for now, want := range map[float64]bool{25: false, 20: false, 18.3: false, 17.9: true} {
		changes := Compare(withRatio(20), withRatio(now))
		if len(changes) != 1 || changes[0].Worse() != want {
			t.Errorf("20 to %g: %+v", now, changes)
		}
	}
}

func TestMillisecondsOfTwoMachinesAreNotCompared(t *testing.T) {
	slow := run(Samples{PodStart: {4000}}, Samples{PodStart: {200}}, 0, 0)
	if changes := Compare(withRatio(20), slow); changes[0].Worse() {
		t.Errorf("%+v", changes)
	}
}

func TestWhatOnlyOneDocumentHasIsLeftOut(t *testing.T) {
	other := run(Samples{ExecSync: {10}}, Samples{ExecSync: {1}}, 0, 0)
	changes := Compare(withRatio(20), other)
	if len(changes) != 0 {
		t.Errorf("%+v", changes)
	}
	if PrintChanges(&strings.Builder{}, changes) == nil {
		t.Error("nothing in common is no failure")
	}
}

func TestCountsOfSystemCallsAreComparedAsTheyAre(t *testing.T) {
	counted := func(calls float64) *Document {
		return &Document{Runtimes: []Runtime{{Name: "husk", Counts: map[string]Count{CreateContainer: {SystemCalls: calls}}}}}
	}
	if changes := Compare(counted(800), counted(850)); len(changes) != 1 || changes[0].Worse() {
		t.Errorf("%+v", changes)
	}
	if changes := Compare(counted(800), counted(900)); !changes[0].Worse() {
		t.Errorf("%+v", changes)
	}
}

func TestTheWorstComesFirstAndFails(t *testing.T) {
	changes := []Change{{"husk", "a", 10, 10, 1}, {"husk", "b", 10, 5, 2}, {"husk", "c", 10, 20, 0.5}}
	var out strings.Builder
	err := PrintChanges(&out, changes)
	if err == nil || !strings.HasPrefix(err.Error(), "1 of 3 rows") {
		t.Error(err)
	}
	b, a := strings.Index(out.String(), "| b |"), strings.Index(out.String(), "| a |")
	if b < 0 || a < b || !strings.Contains(out.String(), "| husk | b | 10.0 | 5.00 | 100 % worse |") {
		t.Error(out.String())
	}
	if err := PrintChanges(&out, changes[2:]); err != nil {
		t.Error(err)
	}
}

func TestCountTableNamesTheMostFrequentCalls(t *testing.T) {
	count := Count{SystemCalls: 12, ByName: map[string]float64{"close": 4, "openat": 8}, Instructions: 2.5e6}
	d := &Document{Runtimes: []Runtime{{Name: "husk", Counts: map[string]Count{ExecSync: count}}}}
	var out strings.Builder
	d.CountTable(&out)
	if !strings.Contains(out.String(), "| ExecSync | 12, 2.50 M instructions | 8 openat, 4 close |\n") {
		t.Error(out.String())
	}
}
