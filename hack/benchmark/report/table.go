package report

import (
	"fmt"
	"io"
	"strings"
)

// Table writes the document as Markdown: where it was measured, then a line for each row that has figures.
func (d *Document) Table(out io.Writer) {
	fmt.Fprintf(out, "%s.\n\n", d.Caption())
	for _, r := range d.Runtimes {
		for _, note := range r.Notes {
			fmt.Fprintf(out, "- %s: %s\n", r.Name, note)
		}
		if r.Pods > 0 {
			fmt.Fprintf(out, "- %s: N is %d\n", r.Name, r.Pods)
		}
	}
	header, line := "| p50 / p95 / p99 / max |", "| --- |"
	for i, r := range d.Runtimes {
		header, line = header+" "+r.Name+" |", line+" ---: |"
		if i > 0 {
			header, line = header+" ratio (p99) |", line+" ---: |"
		}
	}
	fmt.Fprintln(out, "\n"+header+" goal |\n"+line+" ---: |")
	for _, row := range Rows {
		if cells, any := d.cells(row); any {
			fmt.Fprintf(out, "| %s |%s %s |\n", row.Label, cells, row.Goal.text(row.Unit))
		}
	}
}

// Caption says in one line where the figures come from.
func (d *Document) Caption() string {
	m := d.Machine
	text := fmt.Sprintf("%d × %s, %d GiB, Linux %s, cgroup %s, %s", m.CPUs, m.CPU, (m.Memory+512)/1024, m.Kernel, m.Cgroups, m.Time)
	for _, name := range []string{"root", "state"} {
		if home, ok := d.Homes[name]; ok {
			text += fmt.Sprintf(", %s on %s", name, home.Filesystem)
		}
	}
	return text
}

func (d *Document) cells(row Row) (string, bool) {
	var cells strings.Builder
	any := false
	for i, r := range d.Runtimes {
		result, ok := r.Results[row.Key]
		any = any || ok
		cells.WriteString(result.cell(ok))
		switch {
		case i == 0:
		case result.Ratio == 0:
			cells.WriteString(" |")
		case result.Ratio99 > 0 && len(result.Samples) > 1:
			fmt.Fprintf(&cells, " %s (%s) |", ratioText(result.Ratio), ratioText(result.Ratio99))
		default:
			fmt.Fprintf(&cells, " %s |", ratioText(result.Ratio))
		}
	}
	return cells.String(), any
}

func (r Result) cell(measured bool) string {
	switch {
	case !measured:
		return " |"
	case len(r.Samples) == 1:
		return fmt.Sprintf(" %s %s |", number(r.P50), r.Unit)
	default:
		return fmt.Sprintf(" %s / %s / %s / %s %s |", number(r.P50), number(r.P95), number(r.P99), number(r.Max), r.Unit)
	}
}

// ratioText has two digits of a small ratio: at 1.04 and 0.96 they decide.
func ratioText(ratio float64) string {
	if ratio < 2 {
		return fmt.Sprintf("%.2f", ratio)
	}
	return fmt.Sprintf("%.1f", ratio)
}

func (g Goal) text(unit string) string {
	var texts []string
	if g.Ratio > 0 {
		texts = append(texts, fmt.Sprintf("%g times", g.Ratio))
	}
	if g.Ratio99 > 0 {
		texts = append(texts, fmt.Sprintf("p99 %g times", g.Ratio99))
	}
	if g.Most > 0 {
		texts = append(texts, fmt.Sprintf("≤ %g %s", g.Most, unit))
	}
	return strings.Join(texts, ", ")
}
