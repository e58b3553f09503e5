package plot

import (
	"fmt"
	"slices"

	"husk.invalid/hack/benchmark/report"
)

const (
	rowHeight   = 22.0
	groupGap    = 14.0
	titleHeight = 24.0
	gutter      = 150.0
	axisFrom    = gutter + 24
	axisTo      = 700.0
	paperWidth  = 960.0
	// strokesAtMost of one distribution: more cannot be told apart.
	strokesAtMost = 200
)

// distributions draws one group for each of the keys that was measured: a line of the paper for each runtime, every
// sample a stroke, on a logarithmic axis. False when there is nothing to draw.
func distributions(d *report.Document, title string, keys []string) (string, bool) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return len(measured(d, key)) == 0 })
	if len(keys) == 0 {
		return "", false
	}
	low, high, height := 0.0, 0.0, 96.0
	for _, key := range keys {
		runtimes := measured(d, key)
		height += titleHeight + float64(len(runtimes))*rowHeight + groupGap
		for _, r := range runtimes {
			samples := r.Results[key].Samples
			if least := slices.Min(samples); low == 0 || least < low {
				low = least
			}
			high = max(high, slices.Max(samples))
		}
	}
	height += 30
	p := newPaper(paperWidth, height, title, d.Caption())
	p.text(24, 72, "start", 12, pale, false, "each stroke is one call; black bar: median; circle: p99; logarithmic axis, further left is better")
	p.text(axisTo+110, 90, "end", 12, pale, false, "p50 / p99")
	p.text(paperWidth-24, 90, "end", 12, pale, false, "times faster")
	axis := logScale(max(low, 0.001), high, axisFrom, axisTo)
	bottom := height - 34
	for _, tick := range axis.ticks() {
		p.text(axis.at(tick), bottom+18, "middle", 12, pale, false, milliseconds(tick))
	}
	y := 96.0
	for _, key := range keys {
		y += titleHeight
		p.text(24, y-6, "start", 13, ink, true, label(key))
		// Lines in each group alone: they would go through the titles.
		for _, tick := range axis.ticks() {
			p.line(axis.at(tick), y, axis.at(tick), y+float64(len(measured(d, key)))*rowHeight, rule, 1)
		}
		for _, r := range measured(d, key) {
			distribution(p, axis, y, r, r.Results[key])
			y += rowHeight
		}
		y += groupGap
	}
	return p.svg(), true
}

// distribution draws one runtime's samples of one row.
func distribution(p *paper, axis scale, y float64, r report.Runtime, result report.Result) {
	samples := slices.Sorted(slices.Values(result.Samples))
	var places []float64
	for i := range min(len(samples), strokesAtMost) {
		places = append(places, axis.at(samples[i*len(samples)/min(len(samples), strokesAtMost)]))
	}
	middle := y + rowHeight/2
	p.text(gutter, middle+4, "end", 12, colour(r.Name), false, r.Name)
	p.strokes(append(places, axis.at(result.Max)), middle-7, middle+7, colour(r.Name))
	p.line(axis.at(result.P50), middle-9, axis.at(result.P50), middle+9, ink, 2.4)
	p.circle(axis.at(result.P99), middle, 4, ink, "none")
	p.text(axisTo+110, middle+4, "end", 12, ink, false, pair(result.P50, result.P99))
	if result.Ratio > 0 {
		p.text(paperWidth-24, middle+4, "end", 12, ink, true, times(result.Ratio))
	}
}

// times says a ratio with two significant digits.
func times(ratio float64) string {
	switch {
	case ratio >= 10:
		return fmt.Sprintf("%.0f ×", ratio)
	case ratio >= 2:
		return fmt.Sprintf("%.1f ×", ratio)
	default:
		return fmt.Sprintf("%.2f ×", ratio)
	}
}

// pair says two times in one unit.
func pair(p50, p99 float64) string {
	if p99 >= 999.5 {
		return fmt.Sprintf("%s / %s s", short(p50/1000), short(p99/1000))
	}
	return fmt.Sprintf("%s / %s ms", short(p50), short(p99))
}

func measured(d *report.Document, key string) []report.Runtime {
	return slices.DeleteFunc(slices.Clone(d.Runtimes), func(r report.Runtime) bool { return len(r.Results[key].Samples) == 0 })
}
