package plot

import (
	"fmt"
	"slices"

	"husk.invalid/hack/benchmark/report"
)

// curve is one line of a chart.
type curve struct {
	label  string
	colour string
	dashed bool
	points []report.Point
}

const (
	chartTop    = 100.0
	chartBottom = 446.0
	chartLeft   = 90.0
	chartRight  = 690.0
	labelGap    = 17.0
)

// chart draws curves over the number of pods, on a logarithmic axis of values, each with its name and last value at its end.
func chart(title, caption, explanation string, curves []curve, format func(float64) string) string {
	low, high, pods := 0.0, 0.0, 0
	for _, c := range curves {
		for _, point := range c.points {
			if low == 0 || point.Value < low {
				low = point.Value
			}
			high, pods = max(high, point.Value), max(pods, point.Pods)
		}
	}
	p := newPaper(paperWidth, 506, title, caption)
	p.text(24, 72, "start", 12, pale, false, explanation)
	across := linearScale(float64(pods), chartLeft, chartRight)
	up := logScale(max(low, 0.001), high, chartBottom, chartTop)
	for _, tick := range up.ticks() {
		p.line(chartLeft, up.at(tick), chartRight, up.at(tick), rule, 1)
		p.text(chartLeft-10, up.at(tick)+4, "end", 12, pale, false, format(tick))
	}
	for _, tick := range across.ticks() {
		p.line(across.at(tick), chartBottom, across.at(tick), chartBottom+5, pale, 1)
		p.text(across.at(tick), chartBottom+20, "middle", 12, pale, false, short(tick))
	}
	p.line(chartLeft, chartBottom, chartRight, chartBottom, pale, 1)
	p.text((chartLeft+chartRight)/2, chartBottom+42, "middle", 12, pale, false, "pods running")
	slices.SortStableFunc(curves, func(a, b curve) int { return int(up.at(a.last()) - up.at(b.last())) })
	var ends []float64
	for _, c := range curves {
		drawCurve(p, across, up, c)
		ends = append(ends, up.at(c.last()))
	}
	for i, y := range spread(ends, labelGap, chartTop) {
		c := curves[i]
		x := across.at(float64(c.points[len(c.points)-1].Pods))
		p.leader(x+7, ends[i], chartRight+14, y)
		p.text(chartRight+18, y+4, "start", 12, c.colour, true, fmt.Sprintf("%s: %s", c.label, format(c.last())))
	}
	return p.svg()
}

func drawCurve(p *paper, across, up scale, c curve) {
	var xs, ys []float64
	for _, point := range c.points {
		xs, ys = append(xs, across.at(float64(point.Pods))), append(ys, up.at(point.Value))
	}
	p.polyline(xs, ys, c.colour, c.dashed)
	for i := range xs {
		p.circle(xs[i], ys[i], 3, c.colour, "#ffffff")
	}
}

func (c curve) last() float64 { return c.points[len(c.points)-1].Value }
