package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// processes lists the pids that /proc shows. The benchmark has a pid namespace of its own, so these are few and known.
func processes() (map[int]bool, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	pids := map[int]bool{}
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids[pid] = true
		}
	}
	return pids, nil
}

// pss is a process's proportional set size in MiB: shared pages count by the number of their users.
func pss(pid int) (float64, error) {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(rollup)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/smaps_rollup has no Pss", pid)
}

// podOverhead sums what pods cost besides their own processes: every process that is there now and was not before,
// but for the shell that a container runs and its children.
func podOverhead(before map[int]bool) (float64, error) {
	now, err := processes()
	if err != nil {
		return 0, err
	}
	total := 0.0
	for pid := range now {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		name := strings.TrimSpace(string(comm))
		if before[pid] || err != nil || name == "sh" || name == "sleep" {
			continue
		}
		size, err := pss(pid)
		if err != nil {
			return 0, err
		}
		total += size
	}
	return total, nil
}
