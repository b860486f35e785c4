// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"l3afd/payload"
)

// ports of the packets that are counted
const (
	mirroredPort = 7777
	excludedPort = 7778
)

// keys of the documented maps
const (
	matched = iota
	sent
	excluded
	keys = 9
)

func TestMonitorMapsCountPacketsExactlyOnManyCPUs(t *testing.T) {
	for _, style := range []string{"recommended", "classic"} {
		t.Run(style, func(t *testing.T) {
			if isReal && releases[0] != unreleased {
				t.Skip("this release of l3afd asks for the status of what it is about to start, and starts it twice")
			}
			topo := newTopology(t, settings{poll: time.Second})
			it := ours(t, style)
			each(&it, func(program *payload.Program, direction string) {
				withRules(program, fmt.Sprintf(`{"rules": [
					{"action": "exclude", "protocol": ["udp"], "dst_port": ["%d"]},
					{"protocol": ["udp"], "dst_port": ["%d"]}
				]}`, excludedPort, mirroredPort))
				program.MonitorMaps = counters(direction)
				withStatus(program, direction)
			})
			topo.add(topo, it)
			topo.expect("add")
			topo.waitUntilRunning("add")

			counts := make([]float64, keys)
			for _, packets := range []int{1000, 1} {
				cpus := blast(t, mirroredPort, packets)
				blast(t, excludedPort, 2*packets)
				counts[sent] += float64(cpus * packets)
				counts[excluded] += float64(cpus * 2 * packets)
				counts[matched] = counts[sent] + counts[excluded]
				for _, direction := range directions {
					topo.eventuallyCounts(direction, counts)
				}
			}
		})
	}
}

// counters makes l3afd read all counters.
func counters(direction string) []payload.MonitorMap {
	var all []payload.MonitorMap
	for key := range uint32(keys) {
		it := payload.MonitorMap{Name: direction + "_metrics", Key: key, Aggregator: "scalar"}
		all = append(all, it)
	}
	return all
}

// withStatus makes l3afd ask for the status. Without a process, the last status publishes the
// counters.
func withStatus(program *payload.Program, direction string) {
	program.CmdStatus = ourProgram
	program.StatusArgs = payload.Args{"cmd": "status", "iface": "eth0", "direction": direction}
}

func (topo *topology) eventuallyCounts(direction string, counts []float64) {
	topo.Helper()
	eventually(topo, func() string {
		for key, count := range counts {
			name := fmt.Sprintf("%s_metrics_%d_scalar", direction, key)
			read, ok := topo.metric(topo, "l3afd_BPFMonitorMap", "map_name", name)
			if !ok || read != count {
				return fmt.Sprintf("%s is %v (%t), not %v", name, read, ok, count)
			}
		}
		return ""
	})
}

// blast sends this many packets to a port from each CPU, from host and peer at once. It returns the
// number of CPUs.
func blast(t testing.TB, port uint16, packets int) int {
	t.Helper()
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	send := func(netns, to string) {
		var socket net.PacketConn
		within(t, netns, func() (err error) {
			socket, err = net.ListenPacket("udp", ":0")
			return err
		})
		t.Cleanup(func() { socket.Close() })
		address := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), port))
		for cpu := range 64 * len(cpus) {
			if cpus.IsSet(cpu) {
				go func() { failed <- sendFrom(cpu, socket, address, packets) }()
			}
		}
	}
	send("", peerAddress)
	send("peer", hostAddress)
	for range 2 * cpus.Count() {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	return cpus.Count()
}

func sendFrom(cpu int, socket net.PacketConn, to net.Addr, packets int) error {
	// never unlocked: the thread ends with the goroutine
	runtime.LockOSThread()
	var here unix.CPUSet
	here.Set(cpu)
	if err := unix.SchedSetaffinity(0, &here); err != nil {
		return err
	}
	for range packets {
		if _, err := socket.WriteTo([]byte("counted"), to); err != nil {
			return err
		}
	}
	return nil
}
