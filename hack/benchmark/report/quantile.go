package report

import (
	"math"
	"slices"
)

// Quantile is the nearest-rank percentile p (0 to 100) of the samples; NaN without samples.
func Quantile(samples []float64, p float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// rounded keeps four significant digits: more is noise, and makes the file large.
func rounded(value float64) float64 {
	if value == 0 || math.IsNaN(value) || math.IsInf(value, 0) {
		return value
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(value))))
	return math.Round(value*scale) / scale
}

// Better says how many times better ours is than theirs; 0 when there is nothing to compare.
func Better(theirs, ours float64, higher bool) float64 {
	if higher {
		theirs, ours = ours, theirs
	}
	if !(ours > 0 && theirs > 0) {
		return 0
	}
	return theirs / ours
}
