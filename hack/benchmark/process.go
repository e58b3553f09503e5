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

// overhead lists what pods cost besides their own processes: every process that is there now and was not before, but for
// the shell that a container runs and its children.
func overhead(before map[int]bool) ([]int, error) {
	now, err := processes()
	if err != nil {
		return nil, err
	}
	var pids []int
	for pid := range now {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		name := strings.TrimSpace(string(comm))
		if before[pid] || err != nil || name == "sh" || name == "sleep" {
			continue
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// podOverhead is the size of that in MiB.
func podOverhead(before map[int]bool) (float64, error) {
	pids, err := overhead(before)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, pid := range pids {
		size, err := pss(pid)
		if err != nil && !ended(pid) {
			return 0, err
		}
		total += size
	}
	return total, nil
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

// stat is what /proc/PID/stat says of a process.
type stat struct {
	state byte
	// seconds of CPU that it and those of its children that it has reaped took.
	seconds float64
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(text))
}

// ended: gone, or only waiting for its parent to ask how it ended.
func ended(pid int) bool {
	stat, err := readStat(pid)
	return err != nil || stat.state == 'Z'
}

// ticksPerSecond of utime and its like; the kernel shows user space 100 on every architecture that husk runs on.
const ticksPerSecond = 100

// parseStat reads after the last parenthesis: the name before it may hold anything.
func parseStat(text string) (stat, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("%q is not a line of /proc/PID/stat", text)
	}
	s := stat{state: fields[0][0]}
	// utime, stime, cutime, cstime: fields 14 to 17 of proc(5), which counts from the pid.
	for _, field := range fields[11:15] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return stat{}, err
		}
		s.seconds += ticks / ticksPerSecond
	}
	return s, nil
}
