package main

import (
	"time"

	"husk.invalid/hack/benchmark/report"
)

const (
	standing = 20
	// rest is how long what starts lazily, and Go's scavenger, get to come to rest before memory is looked at.
	rest = 3 * time.Second
)

// freshPart runs before anything was asked of the daemons.
func (b *bench) freshPart() error {
	time.Sleep(rest)
	return alternate(1, b.runtimes(), func(s *subject) error { return s.putDaemonSize(report.DaemonFresh) })
}

// memoryPart: what pods that only stand there cost.
func (b *bench) memoryPart() error {
	say("memory: %d pods", standing)
	return alternate(1, b.subjects, func(s *subject) error {
		before, err := processes()
		if err != nil {
			return err
		}
		pods, err := together(s, standing, 1)
		if err != nil {
			return err
		}
		time.Sleep(rest)
		overhead, err := podOverhead(before)
		if err != nil {
			return err
		}
		s.samples.put(report.PodOverhead, overhead/standing)
		if err := s.putDaemonSize(report.DaemonStanding); err != nil {
			return err
		}
		return stopAll(s, pods, 1)
	})
}

func (s *subject) putDaemonSize(key string) error {
	size, err := pss(s.daemonPid)
	if err == nil {
		s.samples.put(key, size)
	}
	return err
}
