package main

import (
	"math"
	"slices"
	"sync"
	"time"
)

// results holds the samples of one subject by what was measured, in milliseconds unless the name says otherwise.
type results map[string][]float64

var resultsLock sync.Mutex

// recording is off while runtimes warm up and while pods are started together.
var recording bool

func (r results) add(what string, took time.Duration) {
	if recording {
		r.put(what, float64(took.Nanoseconds())/1e6)
	}
}

func (r results) put(what string, value float64) {
	resultsLock.Lock()
	defer resultsLock.Unlock()
	r[what] = append(r[what], value)
}

// percentile is the nearest-rank percentile of the samples; NaN without samples.
func (r results) percentile(what string, p float64) float64 {
	samples := slices.Sorted(slices.Values(r[what]))
	if len(samples) == 0 {
		return math.NaN()
	}
	rank := int(math.Ceil(p / 100 * float64(len(samples))))
	return samples[max(rank, 1)-1]
}
