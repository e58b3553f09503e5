package main

import (
	"sync"
	"time"

	"husk.invalid/hack/benchmark/report"
)

// samples of one subject. Nil keeps nothing: for warming up, and for pods that are only there to be there.
type samples struct {
	lock   sync.Mutex
	values report.Samples
}

func newSamples() *samples { return &samples{values: report.Samples{}} }

// took adds a duration in milliseconds.
func (s *samples) took(key string, duration time.Duration) {
	s.put(key, float64(duration.Nanoseconds())/1e6)
}

func (s *samples) put(key string, value float64) {
	if s == nil {
		return
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	s.values[key] = append(s.values[key], value)
}
