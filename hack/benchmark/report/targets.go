package report

import (
	"errors"
	"fmt"
)

// Check compares the named runtime with what the project has promised.
func (d *Document) Check(name string) error {
	var failures []error
	for _, r := range d.Runtimes {
		if r.Name != name {
			continue
		}
		for _, row := range Rows {
			result, measured := r.Results[row.Key]
			switch {
			case !measured:
			case result.Ratio > 0 && result.Ratio < row.Least:
				failures = append(failures, fmt.Errorf("%s is %.1f times better, not %g", row.Key, result.Ratio, row.Least))
			case row.Most > 0 && result.P50 > row.Most:
				failures = append(failures, fmt.Errorf("%s is %.2f %s, more than %g", row.Key, result.P50, row.Unit, row.Most))
			}
		}
		return errors.Join(failures...)
	}
	return fmt.Errorf("no runtime is named %q", name)
}
