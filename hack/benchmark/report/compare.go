package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// tolerance is how much worse a row may be than in the committed document.
const tolerance = 1.10

// Change is a row of one runtime in two documents: how many times better than the baseline it was and is. For a count
// it is what the call cost and costs.
type Change struct {
	Runtime, Row string
	Was, Is      float64
	// Loss is how many times worse it became; below 1 it became better.
	Loss float64
}

// Worse reports whether the change is beyond what noise explains.
func (c Change) Worse() bool { return c.Loss > tolerance }

// Compare pairs what both documents have. Milliseconds of two machines cannot be compared; ratios to a peer of the same
// run and counts of system calls can.
func Compare(was, is *Document) []Change {
	var changes []Change
	for _, now := range is.Runtimes {
		before := slices.IndexFunc(was.Runtimes, func(r Runtime) bool { return r.Name == now.Name })
		if before < 0 {
			continue
		}
		then := was.Runtimes[before]
		for _, row := range Rows {
			a, b := then.Results[row.Key].Ratio, now.Results[row.Key].Ratio
			if a > 0 && b > 0 {
				changes = append(changes, Change{now.Name, row.Key, a, b, a / b})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(now.Counts)) {
			a, b := then.Counts[name].SystemCalls, now.Counts[name].SystemCalls
			if a > 0 && b > 0 {
				changes = append(changes, Change{now.Name, name + ", system calls", a, b, b / a})
			}
		}
	}
	return changes
}

// PrintChanges writes the worst first and fails when one is beyond the tolerance, or when there is nothing to compare.
func PrintChanges(out io.Writer, changes []Change) error {
	if len(changes) == 0 {
		return fmt.Errorf("the two documents have no row in common that has a peer")
	}
	slices.SortStableFunc(changes, func(a, b Change) int {
		switch {
		case a.Loss > b.Loss:
			return -1
		case a.Loss < b.Loss:
			return 1
		}
		return 0
	})
	worse := 0
	fmt.Fprintln(out, "| runtime | row | was | is | |\n| --- | --- | ---: | ---: | --- |")
	for _, c := range changes {
		verdict := ""
		if c.Worse() {
			worse++
			verdict = fmt.Sprintf("%.0f %% worse", 100*(c.Loss-1))
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", c.Runtime, c.Row, number(c.Was), number(c.Is), verdict)
	}
	if worse > 0 {
		return fmt.Errorf("%d of %d rows are more than %.0f %% worse", worse, len(changes), 100*(tolerance-1))
	}
	return nil
}
