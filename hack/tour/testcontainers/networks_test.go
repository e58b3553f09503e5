package testcontainers

import (
	"net/netip"
	"strings"
	"testing"

	api "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

const web = "mkdir /www; echo hello >/www/greeting; httpd -p 8080 -h /www; echo serving"

func newNetwork(t *testing.T, options ...network.NetworkCustomizer) *tc.DockerNetwork {
	t.Helper()
	made, err := network.New(t.Context(), options...)
	tc.CleanupNetwork(t, made)
	check(t, err)
	return made
}

func TestNetworkAliases(t *testing.T) {
	inner, outer := newNetwork(t, network.WithInternal(), network.WithLabels(map[string]string{"of": "user"})), newNetwork(t)
	server := busybox(t, web, network.WithNetwork([]string{"server", "other-name"}, inner), tc.WithWaitStrategy(wait.ForLog("serving")))
	near := busybox(t, "", network.WithNetwork(nil, inner))
	far := busybox(t, "", network.WithNetwork([]string{"far"}, outer))
	for _, name := range []string{"server", "other-name"} {
		is(t, name, says(t, near, "wget", "-q", "-T", "5", "-O", "-", "http://"+name+":8080/greeting"), "0 hello\n")
	}
	if answer := says(t, far, "wget", "-q", "-T", "5", "-O", "-", "http://server:8080/greeting"); !strings.HasPrefix(answer, "1 ") {
		t.Errorf("another network gets through: %s", answer)
	}
	aliases, err := server.NetworkAliases(t.Context())
	check(t, err)
	has := strings.Join(aliases[inner.Name], " ") + " "
	is(t, "that the aliases are shown", strings.Contains(has, "server ") && strings.Contains(has, "other-name "), true)
	seen, err := daemon(t).NetworkInspect(t.Context(), inner.ID, client.NetworkInspectOptions{})
	check(t, err)
	is(t, "the network", []any{seen.Network.Name, seen.Network.Internal, seen.Network.Labels["of"], len(seen.Network.Containers)}, []any{inner.Name, true, "user", 2})
}

func TestNetworkEnds(t *testing.T) {
	made, err := network.New(t.Context())
	check(t, err)
	box := busybox(t, "", network.WithNetwork(nil, made))
	fails(t, made.Remove(t.Context()), "active endpoints")
	check(t, box.Terminate(t.Context(), tc.StopTimeout(0)))
	check(t, made.Remove(t.Context()))
	fails(t, made.Remove(t.Context()), "not found")
}

func TestNetworkAddresses(t *testing.T) {
	subnet := netip.MustParsePrefix("10.211.77.0/24")
	address := subnet.Addr().Next().Next().Next()
	made := newNetwork(t, network.WithIPAM(&api.IPAM{Config: []api.IPAMConfig{{Subnet: subnet, Gateway: subnet.Addr().Next()}}}))
	box := busybox(t, "", network.WithNetwork(nil, made), tc.WithEndpointSettingsModifier(func(settings map[string]*api.EndpointSettings) {
		settings[made.Name].IPAMConfig = &api.EndpointIPAMConfig{IPv4Address: address}
	}))
	is(t, "the address", says(t, box, "hostname", "-i"), "0 10.211.77.3\n")
	seen, err := box.ContainerIPs(t.Context())
	check(t, err)
	is(t, "the addresses", seen, "[10.211.77.3]")
	is(t, "the gateway", says(t, box, "sh", "-c", "ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'"), "0 10.211.77.1\n")
}
