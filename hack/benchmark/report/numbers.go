package report

import (
	"fmt"
	"regexp"
)

var (
	numbers = regexp.MustCompile(`\[\s*-?[0-9][-+.0-9eE,\s]*\]`)
	points  = regexp.MustCompile(`\{\s*"pods": ([0-9]+),\s*"value": ([-+.0-9eE]+)\s*\}`)
	blanks  = regexp.MustCompile(`\s+`)
)

// joinNumbers puts every array of numbers, and every point of a series, of an indented JSON text on one line.
func joinNumbers(text []byte) []byte {
	text = numbers.ReplaceAllFunc(text, func(array []byte) []byte { return blanks.ReplaceAll(array, nil) })
	return points.ReplaceAll(text, []byte(`{"pods": $1, "value": $2}`))
}

// number formats with three significant digits, as far as a reader needs them.
func number(value float64) string {
	switch {
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	default:
		return fmt.Sprintf("%.2f", value)
	}
}
