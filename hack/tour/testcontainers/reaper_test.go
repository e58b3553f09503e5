package testcontainers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

// In a process with this in its environment, TestLeaves is the run that is killed.
const leaving = "TESTCONTAINERS_TOUR_LEAVES"

// left is what a run makes: ids by kind.
type left map[string][]string

// TestLeaves makes one of everything, says what it is, and goes on.
func TestLeaves(t *testing.T) {
	if os.Getenv(leaving) == "" {
		t.Skip("it is a part of TestReaper")
	}
	ctx := t.Context()
	made, err := network.New(ctx)
	check(t, err)
	running, err := tc.Run(ctx, "busybox", tc.WithCmd("sleep", "1000"), network.WithNetwork(nil, made), tc.WithMounts(tc.VolumeMount("testcontainers-left", "/data")))
	check(t, err)
	// The image declares a volume, which has no name and no label.
	ended, err := tc.Run(ctx, "redis", tc.WithCmd("true"), tc.WithWaitStrategy(wait.ForExit()))
	check(t, err)
	seen, err := ended.Inspect(ctx)
	check(t, err)
	built, err := tc.Run(ctx, "", tc.WithDockerfile(tc.FromDockerfile{Context: contextOf(t, "FROM busybox\nRUN echo left >/left\nCMD [\"sleep\", \"1000\"]\n"), Repo: "left", Tag: "image"}))
	check(t, err)
	line, err := json.Marshal(left{
		"container": {running.GetContainerID(), ended.GetContainerID(), built.GetContainerID()},
		"network":   {made.ID},
		"volume":    {"testcontainers-left", seen.Mounts[0].Name},
		"image":     {"left:image"},
		"reaper":    {"reaper_" + tc.SessionID()},
	})
	check(t, err)
	fmt.Printf("left: %s\n", line)
	time.Sleep(time.Hour)
}

// there lists what is there of what was left.
func there(t *testing.T, docker *client.Client, left left) (found []string) {
	for kind, ids := range left {
		for _, id := range ids {
			var err error
			switch kind {
			case "network":
				_, err = docker.NetworkInspect(t.Context(), id, client.NetworkInspectOptions{})
			case "volume":
				_, err = docker.VolumeInspect(t.Context(), id, client.VolumeInspectOptions{})
			case "image":
				_, err = docker.ImageInspect(t.Context(), id)
			default:
				_, err = docker.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
			}
			if err == nil {
				found = append(found, kind+" "+id)
			}
		}
	}
	sort.Strings(found)
	return found
}

func TestReaper(t *testing.T) {
	other := busybox(t, "")
	run := exec.Command(os.Args[0], "-test.run=^TestLeaves$")
	run.Env = append(os.Environ(), leaving+"=1")
	output, err := run.StdoutPipe()
	check(t, err)
	check(t, run.Start())
	var made left
	lines := bufio.NewScanner(output)
	for made == nil && lines.Scan() {
		t.Log(lines.Text())
		if line, found := strings.CutPrefix(lines.Text(), "left: "); found {
			check(t, json.Unmarshal([]byte(line), &made))
		}
	}
	docker := daemon(t)
	before := there(t, docker, made)
	is(t, "how much it has made", len(before), 8)
	check(t, run.Process.Kill())
	fails(t, run.Wait(), "killed")
	// It waits ten seconds for the run to come back.
	if eventually(5, func() bool { return len(there(t, docker, made)) < len(before) }) {
		t.Error("it does not wait for the run to come back")
	}
	eventually(45, func() bool { return len(there(t, docker, made)) == 0 })
	is(t, "what is left", there(t, docker, made), "[]")
	is(t, "whether another run's container goes on", says(t, other, "echo", "yes"), "0 yes\n")
}
