package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"husk.invalid/hack/benchmark/report"
)

// restart ends the daemon and starts it again as it was started, and records the time from there until it lists all
// its pods. Its new pid is left in WORK/restarted, one a line, for hack/bench to end it.
func (s *subject) restart(work string, pods int) error {
	command, err := sameCommand(s.daemonPid)
	if err != nil {
		return err
	}
	if err := end(s.daemonPid); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	began := time.Now()
	if err := command.Start(); err != nil {
		return err
	}
	s.daemonPid = command.Process.Pid
	// Reaped when it ends, so that the next restart sees it go.
	go command.Wait()
	if err := rememberDaemon(filepath.Join(work, "restarted"), s.daemonPid); err != nil {
		return err
	}
	if err := s.untilListed(pods); err != nil {
		return fmt.Errorf("%s: started again: %w", s.name, err)
	}
	s.samples.took(report.DaemonStart, time.Since(began))
	return nil
}

// sameCommand is what started the process: program, arguments, environment, directory and log.
func sameCommand(pid int) (*exec.Cmd, error) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	program, err := os.Readlink(proc + "exe")
	if err != nil {
		return nil, err
	}
	arguments, err := os.ReadFile(proc + "cmdline")
	if err != nil {
		return nil, err
	}
	environment, err := os.ReadFile(proc + "environ")
	if err != nil {
		return nil, err
	}
	directory, err := os.Readlink(proc + "cwd")
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(proc+"fd/2", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	return &exec.Cmd{
		Path: program, Args: zeroTerminated(arguments), Env: zeroTerminated(environment), Dir: directory, Stdout: log, Stderr: log,
	}, nil
}

// zeroTerminated splits texts of which each ends with a zero.
func zeroTerminated(data []byte) []string {
	var texts []string
	for text := range bytes.SplitSeq(bytes.TrimSuffix(data, []byte{0}), []byte{0}) {
		texts = append(texts, string(text))
	}
	return texts
}

// end asks a process to end and waits for that.
func end(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if ended(pid) {
			return nil
		}
	}
	return fmt.Errorf("process %d did not end", pid)
}

func rememberDaemon(path string, pid int) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, pid)
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

// untilListed tries every millisecond: first whether anything listens, for gRPC would wait longer and longer between tries.
func (s *subject) untilListed(pods int) error {
	var last error
	for limit := time.Now().Add(2 * time.Minute); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		connection, err := net.Dial("unix", s.socket)
		if err != nil {
			last = err
			continue
		}
		connection.Close()
		if err := s.connect(); err != nil {
			return err
		}
		if last = s.muted().listPods("ListPodSandbox", pods); last == nil {
			return nil
		}
	}
	return last
}
