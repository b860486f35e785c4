// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// l3afd kills processes that have the user program's name and are not its own. A `--cmd=show
// --watch` survives that.
func TestShowGoesOnWhenL3afdKillsProcessesByName(t *testing.T) {
	topo := newTopology(t, settings{})
	terminal := openTerminal(t)
	watch := exec.Command(mirroring, "--cmd=show", "--watch")
	watch.Stdout, watch.Stderr = terminal.inner, terminal.inner
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Process.Kill() })
	terminal.inner.Close()
	terminal.wait(t, "nothing is mirrored here")

	topo.add(topo, ours(t, "classic"))
	topo.expect("add", both("tcp")...)
	terminal.wait(t, "eth0 ingress (latest): running")

	if err := watch.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := watch.Wait(); err != nil {
		t.Fatalf("show: %v", err)
	}
	// the cursor and the previous screen are back
	terminal.wait(t, "\x1b[?25h")
	terminal.wait(t, "\x1b[?1049l")
	topo.remove(topo, ourName)
	topo.expect("deleted")
}

// terminal is a pseudoterminal, and the text on it.
type terminal struct {
	inner *os.File
	mu    sync.Mutex
	shown strings.Builder
}

func openTerminal(t testing.TB) *terminal {
	t.Helper()
	outer, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outer.Close() })
	number, err := unix.IoctlGetUint32(int(outer.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(outer.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	it := &terminal{}
	it.inner, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(it, outer) }()
	return it
}

func (it *terminal) Write(text []byte) (int, error) {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.shown.Write(text)
}

// wait waits until a text is shown.
func (it *terminal) wait(t testing.TB, what string) {
	t.Helper()
	eventually(t, func() string {
		it.mu.Lock()
		defer it.mu.Unlock()
		if !strings.Contains(it.shown.String(), what) {
			return fmt.Sprintf("%q is not in %q", what, it.shown.String())
		}
		return ""
	})
}
