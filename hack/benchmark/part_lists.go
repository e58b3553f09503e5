package main

import (
	"fmt"

	"husk.invalid/hack/benchmark/report"
)

const (
	listsOfFew  = 100
	listsOfMany = 30
)

// listsPart: lists of 20 running containers, then of many, which are created and not started: a list does not care,
// and no runtime needs a shell for each.
func (b *bench) listsPart() error {
	say("lists: %d containers, then %d", standing, b.containers)
	runtimes, pods := b.runtimes(), map[*subject][]pod{}
	if b.containers != 1000 {
		runtimes[0].note("the long list has %d containers, not 1,000", b.containers)
	}
	err := alternate(1, runtimes, func(s *subject) error {
		var err error
		pods[s], err = together(s, standing, 4)
		return err
	})
	if err != nil {
		return err
	}
	err = alternate(listsOfFew, runtimes, func(s *subject) error {
		if err := s.listContainers(report.ListFew, standing); err != nil {
			return err
		}
		return s.listContainerStats(report.ListStats, standing)
	})
	if err != nil {
		return err
	}
	err = alternate(1, runtimes, func(s *subject) error {
		quiet := s.muted()
		return forEach(b.containers-standing, 4, func(i int) error {
			_, err := quiet.create(report.CreateContainer, pods[s][i%standing], fmt.Sprintf("more-%d", i))
			return err
		})
	})
	if err != nil {
		return err
	}
	err = alternate(listsOfMany, runtimes, func(s *subject) error { return s.listContainers(report.ListMany, b.containers) })
	if err != nil {
		return err
	}
	return alternate(1, runtimes, func(s *subject) error { return stopAll(s, pods[s], 4) })
}
