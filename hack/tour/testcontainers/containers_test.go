package testcontainers

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/wait"
)

func TestIsGivenWhatItAsksFor(t *testing.T) {
	box := busybox(t, "", tc.WithEnv(map[string]string{"ONE": "1 1", "EMPTY": ""}), tc.WithLabels(map[string]string{"of": "user"}), tc.WithName("given"),
		tc.WithTmpfs(map[string]string{"/scratch": "size=16m"}),
		tc.WithConfigModifier(func(config *container.Config) {
			config.User, config.WorkingDir, config.Hostname = "33", "/usr", "somebody"
		}),
		tc.WithHostConfigModifier(func(config *container.HostConfig) {
			config.Memory, config.ReadonlyRootfs, config.CapDrop = 64<<20, true, []string{"ALL"}
		}))
	is(t, "the environment", says(t, box, "sh", "-c", `echo "$ONE-${EMPTY-unset}"; id -u; pwd; hostname`), "0 1 1-\n33\n/usr\nsomebody\n")
	is(t, "the root file system", says(t, box, "touch", "/file"), "1 touch: /file: Read-only file system\n")
	is(t, "the tmpfs", says(t, box, "sh", "-c", "grep -c '^tmpfs /scratch tmpfs .*size=16384k' /proc/mounts"), "0 1\n")
	is(t, "the capabilities", says(t, box, "grep", "CapBnd", "/proc/1/status"), "0 CapBnd:\t0000000000000000\n")
	seen, err := box.Inspect(t.Context())
	check(t, err)
	is(t, "the name", seen.Name, "/given")
	is(t, "the memory", seen.HostConfig.Memory, 64<<20)
	is(t, "the labels", seen.Config.Labels["of"]+" "+seen.Config.Labels["org.testcontainers.lang"], "user go")
	is(t, "the state", seen.State.Status, "running")
	is(t, "whether it runs", box.IsRunning(), true)
}

func TestCommandAndEntrypoint(t *testing.T) {
	box := start(t, "busybox", tc.WithEntrypoint("printf", "<%s>"), tc.WithCmd("$HOME", "a b", ""), tc.WithWaitStrategy(wait.ForExit()))
	output, err := box.Logs(t.Context())
	is(t, "what it says", read(t, output, err), "<$HOME><a b><>")
}

func TestMounts(t *testing.T) {
	directory := t.TempDir()
	check(t, os.WriteFile(filepath.Join(directory, "file"), []byte("of the host"), 0o644))
	box := busybox(t, "",
		tc.WithMounts(tc.VolumeMount("testcontainers-named", "/named"), tc.ContainerMount{Source: tc.GenericTmpfsMountSource{}, Target: "/scratch"}),
		tc.WithHostConfigModifier(func(config *container.HostConfig) { config.Binds = []string{directory + ":/host:ro"} }))
	is(t, "the file", says(t, box, "cat", "/host/file"), "0 of the host")
	is(t, "a write", says(t, box, "touch", "/host/new"), "1 touch: /host/new: Read-only file system\n")
	is(t, "the volume", says(t, box, "sh", "-c", "echo kept >/named/file; grep -c '^tmpfs /scratch ' /proc/mounts"), "0 1\n")
	docker := daemon(t)
	// It is made by the start, with labels by which the reaper knows it.
	volume, err := docker.VolumeInspect(t.Context(), "testcontainers-named", client.VolumeInspectOptions{})
	check(t, err)
	is(t, "the volume's label", volume.Volume.Labels["org.testcontainers.sessionId"], box.SessionID())
	check(t, box.Terminate(t.Context(), tc.StopTimeout(0)))
	_, err = docker.VolumeInspect(t.Context(), "testcontainers-named", client.VolumeInspectOptions{})
	check(t, err)
	other := busybox(t, "", tc.WithMounts(tc.VolumeMount("testcontainers-named", "/named")))
	is(t, "what is in the volume", says(t, other, "cat", "/named/file"), "0 kept\n")
	check(t, other.Terminate(t.Context(), tc.StopTimeout(0), tc.RemoveVolumes("testcontainers-named")))
	_, err = docker.VolumeInspect(t.Context(), "testcontainers-named", client.VolumeInspectOptions{})
	fails(t, err, "no such volume")
}

func TestExec(t *testing.T) {
	box := busybox(t, "")
	is(t, "it", says(t, box, "sh", "-c", "echo err >&2; echo out; exit 7"), "7 out\nerr\n")
	code, output, err := box.Exec(t.Context(), []string{"sh", "-c", "id -u; pwd; echo $WHO"},
		exec.WithUser("33"), exec.WithWorkingDir("/usr/bin"), exec.WithEnv([]string{"WHO=me"}), exec.Multiplexed())
	is(t, "with options", fmt.Sprint(code, " ", read(t, output, err)), "0 33\n/usr/bin\nme\n")
	// Without Multiplexed, each part has a head of eight bytes: the stream, and how long it is.
	_, output, err = box.Exec(t.Context(), []string{"echo", "out"})
	is(t, "the stream", read(t, output, err), "\x01\x00\x00\x00\x00\x00\x00\x04out\n")
	many := says(t, box, "seq", "100000")
	is(t, "the length of much", len(many), len("0 ")+588895)
	code, _, err = box.Exec(t.Context(), []string{"no-such-program"})
	// Not 127 as in a shell.
	is(t, "the code of no program", fmt.Sprint(code, err), "126 <nil>")
}

// collected is what a container says, by stream.
type collected struct {
	mutex sync.Mutex
	text  map[string]string
}

func (c *collected) Accept(log tc.Log) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.text[log.LogType] += string(log.Content)
}

func (c *collected) said(stream string) string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.text[stream]
}

func TestLogs(t *testing.T) {
	collected := &collected{text: map[string]string{}}
	box := busybox(t, "for n in 1 2 3; do echo out $n; sleep 0.2; done; echo err >&2", tc.WithLogConsumers(collected), tc.WithWaitStrategy(wait.ForLog("err")))
	output, err := box.Logs(t.Context())
	is(t, "both streams", read(t, output, err), "out 1\nout 2\nout 3\nerr\n")
	eventually(10, func() bool { return collected.said(tc.StderrLog) != "" })
	is(t, "what the consumer got", collected.said(tc.StdoutLog)+"|"+collected.said(tc.StderrLog), "out 1\nout 2\nout 3\n|err\n")
}

func TestFiles(t *testing.T) {
	directory := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(directory, "tree/deep"), 0o755))
	check(t, os.WriteFile(filepath.Join(directory, "tree/deep/file"), []byte("deep"), 0o600))
	script := tc.ContainerFile{Reader: strings.NewReader("#!/bin/sh\necho started by a file\nexec sleep 1000\n"), ContainerFilePath: "/opt/script", FileMode: 0o755}
	box := start(t, "busybox", tc.WithFiles(script), tc.WithCmd("/opt/script"), tc.WithWaitStrategy(wait.ForLog("started by a file")))
	content := bytes.Repeat([]byte("\x00\x01\xfe\xff"), 1<<18)
	check(t, box.CopyToContainer(t.Context(), content, "/srv/new/content", 0o640))
	check(t, box.CopyDirToContainer(t.Context(), filepath.Join(directory, "tree"), "/srv/tree", 0o755))
	check(t, box.CopyFileToContainer(t.Context(), filepath.Join(directory, "tree/deep/file"), "/srv/alone", 0o604))
	is(t, "the modes", says(t, box, "stat", "-c", "%a %s", "/srv/new/content", "/srv/alone"), "0 640 1048576\n604 4\n")
	is(t, "the tree", says(t, box, "cat", "/srv/tree/deep/file"), "0 deep")
	back, err := box.CopyFileFromContainer(t.Context(), "/srv/new/content")
	is(t, "that it came back", read(t, back, err) == string(content), true)
	_, err = box.CopyFileFromContainer(t.Context(), "/srv/nothing")
	fails(t, err, "/srv/nothing")
}

func TestNginx(t *testing.T) {
	// Two of the same do not meet at a port.
	for range 2 {
		nginx := start(t, "nginx", tc.WithExposedPorts("80/tcp"), tc.WithWaitStrategy(wait.ForHTTP("/").WithPort("80/tcp")))
		check(t, nginx.CopyToContainer(t.Context(), []byte(nginx.GetContainerID()), "/usr/share/nginx/html/id", 0o644))
		is(t, "/id", page(t, nginx, "80/tcp", "/id"), nginx.GetContainerID())
		endpoint, err := nginx.Endpoint(t.Context(), "")
		check(t, err)
		other, err := nginx.PortEndpoint(t.Context(), "80/tcp", "")
		check(t, err)
		is(t, "the lowest port", endpoint, other)
	}
}

func TestRedis(t *testing.T) {
	redis := start(t, "redis:7", tc.WithExposedPorts("6379/tcp"), tc.WithWaitStrategy(wait.ForLog("Ready to accept connections"), wait.ForListeningPort("6379/tcp")))
	address, err := redis.PortEndpoint(t.Context(), "6379/tcp", "")
	check(t, err)
	connection, err := net.DialTimeout("tcp", address, 5*time.Second)
	check(t, err)
	defer connection.Close()
	answers := bufio.NewReader(connection)
	for _, example := range [][2]string{{"PING", "+PONG"}, {"SET visits 41", "+OK"}, {"INCR visits", ":42"}, {"NONSENSE", "-ERR unknown command"}} {
		fmt.Fprintf(connection, "%s\r\n", example[0])
		answer, err := answers.ReadString('\n')
		check(t, err)
		if !strings.HasPrefix(answer, example[1]) {
			t.Errorf("%s: %q", example[0], answer)
		}
	}
	is(t, "a client in the container", says(t, redis, "redis-cli", "--raw", "get", "visits"), "0 42\n")
}

func TestStopsStartsAndTerminates(t *testing.T) {
	var order []string
	note := func(what string) []tc.ContainerHook {
		return []tc.ContainerHook{func(context.Context, tc.Container) error {
			order = append(order, what)
			return nil
		}}
	}
	nginx := start(t, "nginx", tc.WithExposedPorts("80/tcp"), tc.WithWaitStrategy(wait.ForListeningPort("80/tcp")),
		tc.WithAdditionalLifecycleHooks(tc.ContainerLifecycleHooks{
			PostCreates: note("created"), PostStarts: note("started"), PostReadies: note("ready"), PostStops: note("stopped"), PostTerminates: note("terminated"),
		}))
	patience := 20 * time.Second
	check(t, nginx.Stop(t.Context(), &patience))
	state, err := nginx.State(t.Context())
	check(t, err)
	is(t, "the state", fmt.Sprint(state.Status, " ", state.ExitCode), "exited 0")
	check(t, nginx.Start(t.Context()))
	// The port may be another one now.
	is(t, "the page", len(page(t, nginx, "80/tcp", "/")) > 0, true)
	check(t, nginx.Terminate(t.Context()))
	is(t, "the hooks", order, "[created started ready stopped started ready stopped terminated]")
	_, err = daemon(t).ContainerInspect(t.Context(), nginx.GetContainerID(), client.ContainerInspectOptions{})
	fails(t, err, "No such container")
}

func TestIsUsedAgain(t *testing.T) {
	first := busybox(t, "", tc.WithReuseByName("used-again"))
	check(t, first.CopyToContainer(t.Context(), []byte("still here"), "/file", 0o644))
	second := busybox(t, "", tc.WithReuseByName("used-again"))
	is(t, "the container", second.GetContainerID(), first.GetContainerID())
	is(t, "the file", says(t, second, "cat", "/file"), "0 still here")
	// A name is not taken twice without being asked for.
	_, err := tc.Run(t.Context(), "busybox", tc.WithName("used-again"))
	fails(t, err, `The container name "/used-again" is already in use`)
}

func TestSeveralAtOnce(t *testing.T) {
	var requests tc.ParallelContainerRequest
	for number := range 8 {
		requests = append(requests, tc.GenericContainerRequest{Started: true, ContainerRequest: tc.ContainerRequest{
			Image:        "busybox",
			Cmd:          []string{"sh", "-c", fmt.Sprintf("mkdir /www; echo %d >/www/number; exec httpd -f -p 8080 -h /www", number)},
			ExposedPorts: []string{"8080/tcp"},
			WaitingFor:   wait.ForListeningPort("8080/tcp"),
		}})
	}
	containers, err := tc.ParallelContainers(t.Context(), requests, tc.ParallelContainersOptions{WorkersCount: 8})
	for _, one := range containers {
		tc.CleanupContainer(t, one, tc.StopTimeout(0))
	}
	check(t, err)
	pages := map[string]bool{}
	for _, one := range containers {
		pages[page(t, one, "8080/tcp", "/number")] = true
	}
	is(t, "how many different pages there are", len(pages), 8)
}
