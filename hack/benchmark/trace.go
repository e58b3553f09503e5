package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// attachment is a tool that watches processes from outside until it is told to stop.
type attachment struct {
	command *exec.Cmd
	output  string
}

// settle is how long a tool gets to attach to its processes, and a runtime to finish what it does after its answer.
const settle = 700 * time.Millisecond

// attach starts strace or perf on the processes and, from now on, their children. Its report goes to a file of work.
func attach(work, tool string, pids []int) (*attachment, error) {
	a := &attachment{output: filepath.Join(work, tool+".out")}
	var arguments []string
	switch tool {
	case "strace":
		arguments = []string{"-f", "-c", "-U", "calls,name", "-o", a.output}
		for _, pid := range pids {
			arguments = append(arguments, "-p", strconv.Itoa(pid))
		}
	case "perf":
		var texts []string
		for _, pid := range pids {
			texts = append(texts, strconv.Itoa(pid))
		}
		arguments = []string{"stat", "-x", ",", "-e", "instructions", "-o", a.output, "-p", strings.Join(texts, ",")}
	}
	a.command = exec.Command(tool, arguments...)
	log, err := os.Create(filepath.Join(work, tool+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	a.command.Stdout, a.command.Stderr = log, log
	if err := a.command.Start(); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	return a, nil
}

// detach ends the tool, which leaves its processes running, and returns its report.
func (a *attachment) detach() (string, error) {
	time.Sleep(settle)
	if err := a.command.Process.Signal(syscall.SIGINT); err != nil {
		return "", err
	}
	// Both end by the signal that told them to, and report before.
	var exit *exec.ExitError
	if err := a.command.Wait(); err != nil && !errors.As(err, &exit) {
		return "", err
	}
	report, err := os.ReadFile(a.output)
	return string(report), err
}

// parseStrace reads lines "CALLS NAME" of a summary; the last of them is the total.
func parseStrace(text string) (map[string]float64, error) {
	calls := map[string]float64{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[1] == "total" {
			continue
		}
		if count, err := strconv.ParseFloat(fields[0], 64); err == nil {
			calls[fields[1]] = count
		}
	}
	if len(calls) == 0 {
		return nil, fmt.Errorf("strace counted nothing: %q", text)
	}
	return calls, nil
}

// parsePerf reads the count of instructions, which is not there where the processor's counters are not.
func parsePerf(text string) (float64, bool) {
	total, found := 0.0, false
	for line := range strings.Lines(text) {
		fields := strings.Split(line, ",")
		if len(fields) < 3 || !strings.HasPrefix(fields[2], "instructions") {
			continue
		}
		if count, err := strconv.ParseFloat(fields[0], 64); err == nil {
			total, found = total+count, true
		}
	}
	return total, found
}
