package main

import (
	"slices"
	"testing"
)

func TestStatIsReadAfterAnyName(t *testing.T) {
	is, err := parseStat("42 (a) b) S 1 42 42 0 -1 4194560 100 200 0 0 150 50 25 75 20 0 1 0 100 1000 10\n")
	if err != nil || is.state != 'S' || is.seconds != 3 {
		t.Errorf("%+v, %v", is, err)
	}
	for _, text := range []string{"", "42 (a) S 1", "42 (a) S 1 2 3 4 5 6 7 8 9 10 x 1 1 1 1"} {
		if _, err := parseStat(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestStraceSummaryIsReadWithoutItsTotal(t *testing.T) {
	is, err := parseStrace("    calls syscall\n--------- ----------------\n      831 close\n       12 openat\n--------- ----------------\n      843 total\n")
	if err != nil || len(is) != 2 || is["close"] != 831 || is["openat"] != 12 {
		t.Errorf("%v, %v", is, err)
	}
	if _, err := parseStrace(""); err == nil {
		t.Error("an empty summary was read")
	}
}

func TestPerfIsReadWhereThereAreCounters(t *testing.T) {
	if is, ok := parsePerf("# started\n\n1234567,,instructions:u,100,100.00,,\n"); !ok || is != 1234567 {
		t.Error(is, ok)
	}
	if _, ok := parsePerf("<not supported>,,instructions,0,100.00,,\n"); ok {
		t.Error("counters that are not there were read")
	}
}

func TestSubjectIsNamedWithSocketAndDaemon(t *testing.T) {
	for _, argument := range []string{"", "husk", "husk=/a.sock", "husk=/a.sock,x", "husk=/a.sock,1,crun,more"} {
		if _, err := newSubject(argument, "/w", "/p"); err == nil {
			t.Errorf("%q was taken", argument)
		}
	}
}

func TestForEachDoesAllAndTellsEveryFailure(t *testing.T) {
	done := make([]bool, 20)
	if err := forEach(len(done), 3, func(i int) error { done[i] = true; return nil }); err != nil || slices.Contains(done, false) {
		t.Error(done, err)
	}
}

func TestZeroTerminatedTextsAreSplit(t *testing.T) {
	if is := zeroTerminated([]byte("huskd\x00--root\x00/a b\x00")); !slices.Equal(is, []string{"huskd", "--root", "/a b"}) {
		t.Error(is)
	}
}

func TestLadderHasRoomForTheTimedPodsAndEndsAtAll(t *testing.T) {
	for pods, want := range map[int][]int{
		300: {5, 30, 60, 90, 120, 150, 180, 210, 240, 270, 300}, 40: {5, 10, 15, 20, 25, 30, 35, 40}, 21: {5, 10, 15, 21}, 1: {5, 10},
	} {
		if is := ladder(pods); !slices.Equal(is, want) {
			t.Errorf("%d: %v", pods, is)
		}
	}
}
