package main

import (
	"errors"
	"slices"
	"time"

	"husk.invalid/hack/benchmark/report"
)

const (
	warmups     = 3
	burstPods   = 40
	burstAtOnce = 8
	execsAtOnce = 5
	// burstTries is how often a burst is tried before the run ends.
	burstTries = 3
)

// startPart: pods one after the other, with a second container in each, then many at once.
func (b *bench) startPart() error {
	say("start: %d pods one after the other", b.rounds)
	if err := alternate(b.rounds, b.subjects, cycle); err != nil {
		return err
	}
	say("start: %d pods, %d at once, %d times", burstPods, burstAtOnce, b.bursts)
	return alternate(b.bursts, b.subjects, burst)
}

// cycle is the life of a pod, in which a second container comes and goes.
func cycle(s *subject) error {
	p, err := s.start()
	if err != nil {
		return err
	}
	if err := s.another(p); err != nil {
		return err
	}
	return s.stop(p)
}

// burst starts many pods at once. One that fails is noted and repeated: a runtime that loses a pod now and then (containerd's CNI
// plugins get killed in the rush) must not cost the figures of all.
func burst(s *subject) error {
	var failures []error
	for range burstTries {
		began := time.Now()
		pods, err := together(s, burstPods, burstAtOnce)
		took := time.Since(began)
		if err == nil {
			s.samples.put(report.PodsPerSecond, burstPods/took.Seconds())
			return stopAll(s, pods, 1)
		}
		s.note("%d pods at once failed and were repeated: %v", burstPods, err)
		if failures = append(failures, err); discard(s.muted(), pods) != nil {
			break
		}
	}
	return errors.Join(failures...)
}

// discard removes what there is of pods that were perhaps not started.
func discard(s *subject, pods []pod) error {
	made := slices.DeleteFunc(pods, func(p pod) bool { return p.sandbox == "" })
	return forEach(len(made), 1, func(i int) error {
		return errors.Join(s.stopSandbox(made[i]), s.removeSandbox(made[i]))
	})
}

// execPart: commands in one pod of each runtime, a few of one and then a few of the other.
func (b *bench) execPart() error {
	say("exec: %d commands", b.rounds*execsAtOnce)
	pods := map[*subject]pod{}
	for _, s := range b.subjects {
		p, err := s.muted().start()
		if err != nil {
			return err
		}
		pods[s] = p
	}
	err := alternate(b.rounds, b.subjects, func(s *subject) error {
		for range execsAtOnce {
			if err := s.exec(pods[s]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return alternate(1, b.subjects, func(s *subject) error { return s.muted().stop(pods[s]) })
}
