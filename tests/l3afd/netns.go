// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The host is this process's network namespace. Its eth0 leads to a peer, its eth1 to a collector.
const (
	hostAddress      = "192.0.2.1"
	peerAddress      = "192.0.2.2"
	collectorAddress = "192.0.2.50"
)

// makeNetworks makes the namespaces, and removes them after the test.
func makeNetworks(t testing.TB) {
	batch := func(commands string) {
		for command := range strings.Lines(commands) {
			if fields := strings.Fields(command); len(fields) > 0 {
				run(t, "ip", fields...)
			}
		}
	}
	t.Cleanup(func() {
		batch(`
			link delete eth0
			link delete eth1
			netns delete peer
			netns delete collector
		`)
	})
	batch(`
		netns add peer
		netns add collector
		link add eth0 type veth peer name eth0 netns peer
		link add eth1 type veth peer name eth0 netns collector
		address add 192.0.2.1/27 dev eth0
		address add 192.0.2.33/27 dev eth1
		link set eth0 up
		link set eth1 up
		-netns peer address add 192.0.2.2/27 dev eth0
		-netns peer link set eth0 up
		-netns collector address add 192.0.2.50/27 dev eth0
		-netns collector link set eth0 up
	`)
}

// within runs a function that makes sockets in another network namespace; "" is the host's.
func within(t testing.TB, netns string, do func() error) {
	t.Helper()
	if netns == "" {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		return
	}
	failed := make(chan error)
	go func() {
		// never unlocked: the thread has changed its namespace, so it must end with the goroutine
		runtime.LockOSThread()
		there, err := os.Open("/run/netns/" + netns)
		if err == nil {
			err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = do()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}
