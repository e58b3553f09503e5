package testcontainers

import (
	"io"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// Ready after two seconds, in every way that is waited for.
const server = `
mkdir /www && sleep 2
echo ready >/www/ready
echo it is ready >&2
httpd -p 8080 -h /www
`

// healthy is a health check by this command.
func healthy(command string, retries int) tc.CustomizeRequestOption {
	return tc.WithConfigModifier(func(config *container.Config) {
		config.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", command}, Interval: 500 * time.Millisecond, Timeout: 10 * time.Second, Retries: retries}
	})
}

// said matches an answer that is this text.
func said(text string) func(io.Reader) bool {
	return func(body io.Reader) bool {
		content, err := io.ReadAll(body)
		return err == nil && string(content) == text
	}
}

func TestWaitsUntilReady(t *testing.T) {
	for name, strategy := range map[string]wait.Strategy{
		"log":        wait.ForLog("it is ready"),
		"expression": wait.ForLog("it (is|was) [r]eady").AsRegexp(),
		// It looks for the port from outside and, by a shell in the container, inside.
		"port":    wait.ForListeningPort("8080/tcp"),
		"exposed": wait.ForExposedPort(),
		"http":    wait.ForHTTP("/ready").WithPort("8080/tcp").WithResponseMatcher(said("ready\n")),
		"status":  wait.ForHTTP("/nothing").WithPort("8080/tcp").WithStatusCodeMatcher(func(status int) bool { return status == 404 }),
		"exec":    wait.ForExec([]string{"test", "-e", "/www/ready"}),
		"file":    wait.ForFile("/www/ready"),
		"health":  wait.ForHealthCheck(),
		"all":     wait.ForAll(wait.ForLog("ready"), wait.ForListeningPort("8080/tcp"), wait.ForExec([]string{"pidof", "httpd"})),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			container := busybox(t, server, tc.WithExposedPorts("8080/tcp"), healthy("test -e /www/ready", 100), tc.WithWaitStrategyAndDeadline(time.Minute, strategy))
			is(t, "/www/ready", says(t, container, "cat", "/www/ready"), "0 ready\n")
		})
	}
}

func TestWaitsUntilItEnds(t *testing.T) {
	container := start(t, "busybox", shell("sleep 1; exit 3"), tc.WithWaitStrategy(wait.ForExit().WithExitTimeout(time.Minute)))
	state, err := container.State(t.Context())
	check(t, err)
	is(t, "the exit code", state.ExitCode, 3)
	is(t, "the state", state.Status, "exited")
}

func TestWaitFailsAndShowsWhy(t *testing.T) {
	for name, example := range map[string]struct {
		script   string
		strategy wait.Strategy
		says     string
	}{
		"it has ended":     {"echo too bad; exit 3", wait.ForLog("never said"), "exited with code 3"},
		"it is unhealthy":  {"exec sleep 1000", wait.ForHealthCheck().WithStartupTimeout(2 * time.Second), "deadline exceeded"},
		"time has run out": {"exec sleep 1000", wait.ForLog("never said").WithStartupTimeout(2 * time.Second), "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			container, err := tc.Run(t.Context(), "busybox", shell(example.script), healthy("exit 1", 1), tc.WithWaitStrategy(example.strategy))
			tc.CleanupContainer(t, container, tc.StopTimeout(0))
			fails(t, err, example.says)
		})
	}
}
