package main

import (
	"strings"
	"time"

	"husk.invalid/hack/benchmark/report"
)

const (
	// timedPods are started one after the other at each step of the way up; the pods between come four at once.
	timedPods = 5
	steps     = 10
	restarts  = 3
	scaleAsks = 20
)

// scalePart takes one runtime after the other: hundreds of pods of one would slow the other's.
func (b *bench) scalePart() error {
	for _, s := range b.runtimes() {
		say("scale: %s, up to %d pods", s.name, b.pods)
		before, err := processes()
		if err != nil {
			return err
		}
		pods, err := b.climb(s, before)
		if err != nil {
			return err
		}
		b.reached[s] = len(pods)
		if err := s.atTheTop(len(pods)); err != nil {
			return err
		}
		say("scale: %s, %d starts of the daemon", s.name, restarts)
		for range restarts {
			if err := s.restart(b.work, len(pods)); err != nil {
				return err
			}
		}
		if err := stopAll(s, pods, 4); err != nil {
			return err
		}
	}
	return nil
}

// climb starts pods in steps, and at each notes what a start takes and what the runtime has become.
func (b *bench) climb(s *subject, before map[int]bool) ([]pod, error) {
	var pods []pod
	began, quiet := time.Now(), s.muted()
	for step := range steps + 1 {
		target := max(b.pods*step/steps, timedPods)
		if fill := target - timedPods - len(pods); fill > 0 {
			more, err := together(s, fill, 4)
			if err != nil {
				return nil, err
			}
			pods = append(pods, more...)
		}
		var took []float64
		for len(pods) < target {
			start := time.Now()
			p, err := quiet.start()
			if err != nil {
				return nil, err
			}
			took = append(took, float64(time.Since(start).Nanoseconds())/1e6)
			pods = append(pods, p)
		}
		if err := s.noteStep(before, len(pods), took); err != nil {
			return nil, err
		}
		last := step == steps
		if !last && time.Since(began) > b.budget {
			s.note("after %s there were %d pods of %d; the rest was left out", time.Since(began).Round(time.Second), len(pods), b.pods)
			last = true
		}
		if step == 0 || last {
			for _, value := range took {
				s.samples.put(map[bool]string{true: report.LastPod, false: report.FirstPod}[last], value)
			}
		}
		if last {
			break
		}
	}
	first, lastStart := s.samples.values[report.FirstPod], s.samples.values[report.LastPod]
	s.samples.put(report.Growth, report.Quantile(lastStart, 50)/report.Quantile(first, 50))
	return pods, nil
}

func (s *subject) noteStep(before map[int]bool, pods int, took []float64) error {
	daemon, err := pss(s.daemonPid)
	if err != nil {
		return err
	}
	overhead, err := podOverhead(before)
	if err != nil {
		return err
	}
	for name, value := range map[string]float64{report.SeriesStart: report.Quantile(took, 50), report.SeriesDaemon: daemon, report.SeriesPods: overhead} {
		s.series[name] = append(s.series[name], report.Point{Pods: pods, Value: value})
	}
	return nil
}

// atTheTop: memory at rest and the lists of all pods.
func (s *subject) atTheTop(pods int) error {
	time.Sleep(rest)
	if err := s.putDaemonSize(report.DaemonScaled); err != nil {
		return err
	}
	for range scaleAsks {
		if err := s.listPodStats(pods); err != nil {
			return err
		}
	}
	for range scaleAsks {
		err := s.listPodMetrics(pods)
		if err != nil && strings.Contains(err.Error(), "Unimplemented") {
			s.note("has no ListPodSandboxMetrics")
			break
		}
		if err != nil {
			return err
		}
	}
	return nil
}
