// The benchmark: asks several CRI runtimes for the same pods in turn and compares what each RPC takes; and daemons that speak Docker's API for the
// same containers.
//
// hack/bench starts the runtimes and this program. Rounds alternate between the runtimes (A B C A B C ...), so that
// what else the machine does meets all of them alike; only the parts with many pods take one runtime after the other.
package main

import (
	"fmt"
	"os"

	"husk.invalid/hack/benchmark/plot"
	"husk.invalid/hack/benchmark/report"
)

const usage = `usage: benchmark run [flags] NAME=SOCKET,DAEMON_PID[,HANDLER]...   measure; the first is the baseline
       benchmark count [flags] NAME=SOCKET,DAEMON_PID...           count system calls and instructions instead
       benchmark docker [flags] NAME=SOCKET...                     measure docker run; the first is the baseline
       benchmark table FILE.json                                   the table of a run, in Markdown
       benchmark plot FILE.json DIRECTORY                          its plots, in SVG
       benchmark compare OLD.json NEW.json                         fail on a row that became worse`

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func dispatch(arguments []string) error {
	verb := ""
	if len(arguments) > 0 {
		verb, arguments = arguments[0], arguments[1:]
	}
	switch {
	case verb == "run":
		return run(arguments)
	case verb == "count":
		return count(arguments)
	case verb == "docker":
		return dockerBench(arguments)
	case verb == "table" && len(arguments) == 1:
		document, err := report.Load(arguments[0])
		if err == nil {
			document.Table(os.Stdout)
		}
		return err
	case verb == "plot" && len(arguments) == 2:
		document, err := report.Load(arguments[0])
		if err != nil {
			return err
		}
		return plot.Write(document, arguments[1])
	case verb == "compare" && len(arguments) == 2:
		was, err := report.Load(arguments[0])
		if err != nil {
			return err
		}
		is, err := report.Load(arguments[1])
		if err != nil {
			return err
		}
		return report.PrintChanges(os.Stdout, report.Compare(was, is))
	}
	return fmt.Errorf("no such command\n%s", usage)
}
