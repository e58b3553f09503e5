package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"husk.invalid/hack/benchmark/report"
)

// machine describes where the numbers come from.
func machine() report.Machine {
	m := report.Machine{CPU: "unknown processor", CPUs: runtime.NumCPU(), Cgroups: cgroups(), Time: time.Now().UTC().Format(time.RFC3339)}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		m.Memory = int(info.Totalram * uint64(info.Unit) >> 20)
	}
	return m
}

// filesystems by their magic numbers, statfs(2).
var filesystems = map[int64]string{
	0x01021994: "tmpfs", 0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x794c7630: "overlay", 0x27e0eb: "cgroup v1",
	0x63677270: "cgroup v2", 0xf2f52010: "f2fs", 0x2fc12fc1: "zfs",
}

func filesystem(path string) string {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return "unknown"
	}
	if name, ok := filesystems[int64(stat.Type)]; ok {
		return name
	}
	return fmt.Sprintf("%#x", stat.Type)
}

// cgroups says which version the node has, by what is mounted on /sys/fs/cgroup.
func cgroups() string {
	switch filesystem("/sys/fs/cgroup") {
	case "cgroup v2":
		return "v2"
	case "unknown":
		return "unknown"
	}
	if filesystem("/sys/fs/cgroup/unified") == "cgroup v2" {
		return "v1 with a bare v2 tree"
	}
	return "v1"
}

// homes are where hack/bench puts the runtimes' files.
func homes(work string) map[string]report.Home {
	run := filepath.Join(work, "run")
	return map[string]report.Home{
		"root":  {Path: work, Filesystem: filesystem(work)},
		"state": {Path: run, Filesystem: filesystem(run)},
	}
}
