package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// counted are the RPCs of a pod's life, in order.
var counted = []string{
	RunPodSandbox, CreateContainer, StartContainer, ExecSync, StopContainer, "RemoveContainer", StopPodSandbox, RemovePodSandbox,
}

// most is how many system calls the table names of each RPC.
const most = 6

// CountTable writes what each RPC costs in system calls and instructions, and the most frequent of the last runtime's.
func (d *Document) CountTable(out io.Writer) {
	header, line := "| a call |", "| --- |"
	for _, r := range d.Runtimes {
		header, line = header+" "+r.Name+" |", line+" ---: |"
		for _, note := range r.Notes {
			fmt.Fprintf(out, "- %s: %s\n", r.Name, note)
		}
	}
	fmt.Fprintf(out, "\n%s most frequent of the last |\n%s --- |\n", header, line)
	for _, name := range counted {
		row, names := "", ""
		for _, r := range d.Runtimes {
			count, ok := r.Counts[name]
			if !ok {
				row += " |"
				continue
			}
			row += fmt.Sprintf(" %.0f", count.SystemCalls)
			if count.Instructions > 0 {
				row += fmt.Sprintf(", %.2f M instructions", count.Instructions/1e6)
			}
			row += " |"
			names = count.frequent()
		}
		fmt.Fprintf(out, "| %s |%s %s |\n", name, row, names)
	}
}

func (c Count) frequent() string {
	names := slices.SortedFunc(maps.Keys(c.ByName), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.ByName[b], c.ByName[a]), cmp.Compare(a, b))
	})
	var texts []string
	for _, name := range names[:min(most, len(names))] {
		texts = append(texts, fmt.Sprintf("%.0f %s", c.ByName[name], name))
	}
	return strings.Join(texts, ", ")
}
