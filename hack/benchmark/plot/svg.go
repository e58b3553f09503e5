package plot

import (
	"fmt"
	"html"
	"strings"
)

// The colours are told apart by people who see colours differently (Okabe and Ito), on white.
var colours = map[string]string{
	"containerd": "#0072b2", "containerd-crun": "#3f97cf", "crio": "#009e73", "husk": "#d55e00", "husk-cni": "#b8860b",
}

const (
	ink  = "#1f2328"
	pale = "#59636e"
	rule = "#d8dde3"
	// other is for runtimes that have no colour.
	other = "#6f42c1"
)

func colour(runtime string) string {
	if c, ok := colours[runtime]; ok {
		return c
	}
	return other
}

// paper is a drawing. It has a white ground of its own: viewers may be dark.
type paper struct {
	body          strings.Builder
	width, height float64
}

func newPaper(width, height float64, title, subtitle string) *paper {
	p := &paper{width: width, height: height}
	p.text(24, 32, "start", 17, ink, true, title)
	p.text(24, 52, "start", 12, pale, false, subtitle)
	return p
}

func (p *paper) text(x, y float64, anchor string, size int, fill string, bold bool, text string) {
	weight := ""
	if bold {
		weight = ` font-weight="600"`
	}
	fmt.Fprintf(&p.body, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s"%s>%s</text>`+"\n",
		x, y, anchor, size, fill, weight, html.EscapeString(text))
}

func (p *paper) line(x1, y1, x2, y2 float64, stroke string, width float64) {
	fmt.Fprintf(&p.body, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g"/>`+"\n", x1, y1, x2, y2, stroke, width)
}

// strokes are many vertical lines of one height, which grow darker where they lie on each other. Each is a path of its
// own: within one, what overlaps is not painted twice.
func (p *paper) strokes(places []float64, top, bottom float64, stroke string) {
	fmt.Fprintf(&p.body, `<g stroke="%s" stroke-width="1.6" stroke-opacity="0.3">`+"\n", stroke)
	for _, x := range places {
		fmt.Fprintf(&p.body, `<path d="M%.1f %.1fV%.1f"/>`, x, top, bottom)
	}
	p.body.WriteString("\n</g>\n")
}

// leader is the thin line from the end of a curve to its label.
func (p *paper) leader(x1, y1, x2, y2 float64) {
	fmt.Fprintf(&p.body, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="1 4"/>`+"\n", x1, y1, x2, y2, pale)
}

func (p *paper) polyline(xs, ys []float64, stroke string, dashed bool) {
	points := make([]string, len(xs))
	for i := range xs {
		points[i] = fmt.Sprintf("%.1f,%.1f", xs[i], ys[i])
	}
	dash := ""
	if dashed {
		dash = ` stroke-dasharray="5 4"`
	}
	fmt.Fprintf(&p.body, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.Join(points, " "), stroke, dash)
}

func (p *paper) circle(x, y, radius float64, stroke, fill string) {
	fmt.Fprintf(&p.body, `<circle cx="%.1f" cy="%.1f" r="%g" stroke="%s" stroke-width="1.6" fill="%s"/>`+"\n", x, y, radius, stroke, fill)
}

func (p *paper) svg() string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="Helvetica, Arial, 'DejaVu Sans', sans-serif">
<rect width="100%%" height="100%%" fill="#ffffff"/>
%s</svg>
`, p.width, p.height, p.width, p.height, p.body.String())
}
