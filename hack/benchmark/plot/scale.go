package plot

import (
	"fmt"
	"math"
	"strconv"
)

// scale maps values to places on the paper.
type scale struct {
	low, high float64
	from, to  float64
	log       bool
}

// linearScale starts at zero and ends at a tick.
func linearScale(high, from, to float64) scale {
	if !(high > 0) {
		high = 1
	}
	step := niceStep(high)
	return scale{low: 0, high: step * math.Ceil(high/step-1e-9), from: from, to: to}
}

// logScale begins and ends at 1, 2 or 5 times a power of ten, so that every value is inside.
func logScale(low, high, from, to float64) scale {
	return scale{low: niceBelow(low), high: niceAbove(high), from: from, to: to, log: true}
}

// at is the place of a value; values beyond the ends stand at the ends.
func (s scale) at(value float64) float64 {
	value = min(max(value, s.low), s.high)
	share := (value - s.low) / (s.high - s.low)
	if s.log {
		share = math.Log(value/s.low) / math.Log(s.high/s.low)
	}
	return s.from + share*(s.to-s.from)
}

// ticks are where lines and labels go: every power of ten (and 2 and 5 of it where there are few), or at most six steps.
func (s scale) ticks() []float64 {
	var ticks []float64
	if !s.log {
		step := niceStep(s.high)
		for i := 0; float64(i)*step <= s.high*(1+1e-9); i++ {
			ticks = append(ticks, float64(i)*step)
		}
		return ticks
	}
	factors := []float64{1}
	if math.Log10(s.high/s.low) < 2.5 {
		factors = []float64{1, 2, 5}
	}
	for power := math.Floor(math.Log10(s.low)); power <= math.Ceil(math.Log10(s.high)); power++ {
		for _, factor := range factors {
			if tick := factor * math.Pow(10, power); tick >= s.low*(1-1e-9) && tick <= s.high*(1+1e-9) {
				ticks = append(ticks, tick)
			}
		}
	}
	return ticks
}

// niceStep is 1, 2 or 5 times a power of ten and divides 0 to high into at most six.
func niceStep(high float64) float64 {
	for power := math.Floor(math.Log10(high)) - 1; ; power++ {
		for _, factor := range []float64{1, 2, 5} {
			if step := factor * math.Pow(10, power); high/step <= 6 {
				return step
			}
		}
	}
}

func niceBelow(value float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(value)))
	for _, factor := range []float64{5, 2} {
		if factor*power <= value*(1+1e-9) {
			return factor * power
		}
	}
	return power
}

func niceAbove(value float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(value)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= value*(1-1e-9) {
			return factor * power
		}
	}
	return 10 * power
}

// milliseconds as a person says them.
func milliseconds(value float64) string {
	if value >= 999.5 {
		return short(value/1000) + " s"
	}
	return short(value) + " ms"
}

// mebibytes as a person says them.
func mebibytes(value float64) string {
	if value >= 1023.5 {
		return short(value/1024) + " GiB"
	}
	return short(value) + " MiB"
}

// short has three significant digits and no zeros at the end.
func short(value float64) string {
	text := fmt.Sprintf("%.3g", value)
	if number, err := strconv.ParseFloat(text, 64); err == nil {
		text = strconv.FormatFloat(number, 'f', -1, 64)
	}
	return text
}

// spread moves labels apart that would overlap: places in rising order come back at least gap from each other, as near
// as can be to where they were, none above low.
func spread(places []float64, gap, low float64) []float64 {
	moved := append([]float64{}, places...)
	for round := 0; round < 200; round++ {
		still := true
		for i := 1; i < len(moved); i++ {
			if lack := gap - (moved[i] - moved[i-1]); lack > 1e-6 {
				moved[i-1] -= lack / 2
				moved[i] += lack / 2
				still = false
			}
		}
		if len(moved) > 0 && moved[0] < low {
			moved[0] = low
		}
		if still {
			break
		}
	}
	return moved
}
