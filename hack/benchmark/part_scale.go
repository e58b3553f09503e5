package main

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"husk.invalid/hack/benchmark/report"
)

const (
	// timedPods are started one after the other at each step of the way up; the pods between come four at once.
	timedPods = 5
	steps     = 10
	restarts  = 3
	scaleAsks = 20
	// askingAtMost is when no more lists are asked for: a peer takes seconds for one.
	askingAtMost = 20 * time.Second
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

// ladder is at how many pods something is measured: a handful, then in equal steps up to all; each has room for the pods
// that are timed.
func ladder(pods int) []int {
	pods = max(pods, 2*timedPods)
	between := min(steps, pods/timedPods-1)
	rungs := []int{timedPods}
	for step := 1; step <= between; step++ {
		rungs = append(rungs, max(pods*step/between, rungs[step-1]+timedPods))
	}
	return rungs
}

// climb starts pods up the ladder, and at each rung notes what a start takes and what the runtime has become.
func (b *bench) climb(s *subject, before map[int]bool) ([]pod, error) {
	var pods []pod
	var first, last []float64
	began := time.Now()
	for _, rung := range ladder(b.pods) {
		if since := time.Since(began); since > b.budget {
			s.note("after %s there were %d pods of %d; the rest was left out", since.Round(time.Second), len(pods), b.pods)
			break
		}
		more, err := together(s, rung-timedPods-len(pods), 4)
		if err != nil {
			return nil, err
		}
		pods = append(pods, more...)
		if more, last, err = timedStarts(s.muted()); err != nil {
			return nil, err
		}
		pods = append(pods, more...)
		if first == nil {
			first = last
		}
		if err := s.noteRung(before, len(pods), report.Quantile(last, 50)); err != nil {
			return nil, err
		}
	}
	for i := range timedPods {
		s.samples.put(report.FirstPod, first[i])
		s.samples.put(report.LastPod, last[i])
	}
	s.samples.put(report.Growth, report.Quantile(last, 50)/report.Quantile(first, 50))
	return pods, nil
}

// timedStarts starts some pods one after the other and returns what each took, in ms.
func timedStarts(s *subject) (pods []pod, took []float64, err error) {
	for range timedPods {
		began := time.Now()
		p, err := s.start()
		if err != nil {
			return nil, nil, err
		}
		pods, took = append(pods, p), append(took, float64(time.Since(began).Nanoseconds())/1e6)
	}
	return pods, took, nil
}

func (s *subject) noteRung(before map[int]bool, pods int, start float64) error {
	daemon, err := pss(s.daemonPid)
	if err != nil {
		return err
	}
	overhead, err := podOverhead(before)
	if err != nil {
		return err
	}
	for name, value := range map[string]float64{report.SeriesStart: start, report.SeriesDaemon: daemon, report.SeriesPods: overhead} {
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
	if err := untilEnough(func() error { return s.listPodStats(pods) }); err != nil {
		return err
	}
	err := untilEnough(func() error { return s.listPodMetrics(pods) })
	if status.Code(err) == codes.Unimplemented {
		s.note("has no ListPodSandboxMetrics")
		return nil
	}
	return err
}

// untilEnough asks again and again, but not for ever.
func untilEnough(ask func() error) error {
	began := time.Now()
	for range scaleAsks {
		if err := ask(); err != nil {
			return err
		}
		if time.Since(began) > askingAtMost {
			break
		}
	}
	return nil
}
