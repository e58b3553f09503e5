package main

import (
	"sync/atomic"
	"time"

	"husk.invalid/hack/benchmark/report"
)

// idlePart: what a node costs on which nothing happens, one runtime after the other: first nothing at all, then what a
// kubelet does there, which is to run a probe in each pod every second.
func (b *bench) idlePart() error {
	for _, s := range b.runtimes() {
		say("idle: %s with %d pods, twice %s", s.name, b.idlePods, b.window)
		before, err := processes()
		if err != nil {
			return err
		}
		pods, err := together(s, b.idlePods, 4)
		if err != nil {
			return err
		}
		time.Sleep(rest)
		pids, err := overhead(before)
		if err != nil {
			return err
		}
		pids = append(pids, s.daemonPid)
		minutes := b.window.Minutes()
		used := cpuSeconds(pids)
		time.Sleep(b.window)
		s.samples.put(report.RestCPU, (cpuSeconds(pids)-used)/minutes)

		used = cpuSeconds(pids)
		answered, err := probe(s.muted(), pods, b.window)
		if err != nil {
			return err
		}
		used = cpuSeconds(pids) - used
		s.samples.put(report.ProbesCPU, used/minutes)
		s.samples.put(report.CPUPerProbe, 1000*used/float64(answered))
		rate := float64(answered) / b.window.Seconds()
		s.samples.put(report.ProbesReached, rate)
		if want := float64(b.idlePods); rate < 0.9*want {
			s.note("answered %.0f probes a second of %.0f: its CPU is that of fewer", rate, want)
		}
		if err := stopAll(s, pods, 4); err != nil {
			return err
		}
	}
	return nil
}

// probe runs a command in each pod every second, as a kubelet's prober does: a worker for each pod, which skips a turn
// when the one before has not ended. Returns how many were answered.
func probe(s *subject, pods []pod, window time.Duration) (int64, error) {
	var answered atomic.Int64
	stop := time.Now().Add(window)
	err := forEach(len(pods), len(pods), func(i int) error {
		time.Sleep(time.Second * time.Duration(i) / time.Duration(len(pods)))
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for time.Now().Before(stop) {
			if err := s.exec(pods[i]); err != nil {
				return err
			}
			answered.Add(1)
			<-ticker.C
		}
		return nil
	})
	return answered.Load(), err
}

// cpuSeconds sums what the processes have used; one that has ended counts in its parent, which has reaped it.
func cpuSeconds(pids []int) float64 {
	total := 0.0
	for _, pid := range pids {
		if stat, err := readStat(pid); err == nil {
			total += stat.seconds
		}
	}
	return total
}
