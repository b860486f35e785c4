// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const bpffs = "/sys/fs/bpf"

// mountBPFFS mounts a BPF file system. It is removed after the test with all pins.
func mountBPFFS(t testing.TB) {
	t.Helper()
	if err := unix.Mount("bpf", bpffs, "bpf", 0, ""); err != nil {
		t.Fatalf("%s: %v", bpffs, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(bpffs, unix.MNT_DETACH); err != nil {
			t.Errorf("%s: %v", bpffs, err)
		}
	})
}

// ourPins returns all pins but those of the roots and neighbours.
func ourPins(t testing.TB) []string {
	t.Helper()
	theirs := regexp.MustCompile(`/(tc-root|before|behind)/|/(tc|before|behind)_(in|e)gress_[a-z_]+$`)
	var found []string
	err := filepath.WalkDir(bpffs, func(path string, entry fs.DirEntry, err error) error {
		// kernels have pins of their own at the top
		if err == nil && !entry.IsDir() && filepath.Dir(path) != bpffs && !theirs.MatchString(path) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// counted returns how many packets a neighbour has seen.
func counted(t testing.TB, release, name, direction string) uint64 {
	t.Helper()
	folder := ""
	if release == unreleased {
		folder = name + "/latest/"
	}
	path := fmt.Sprintf("%s/tc/globals/eth0/%s%s_%s_count", bpffs, folder, name, direction)
	counter, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer counter.Close()
	var count uint64
	if err := counter.Lookup(uint32(0), &count); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return count
}

// isLoaded returns whether the kernel has a program.
func isLoaded(id uint32) bool {
	program, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		return false
	}
	program.Close()
	return true
}

// userProgram returns the process of our program that was started for a direction; 0: none.
func userProgram(direction string) int {
	for pid, words := range userPrograms() {
		if slices.Contains(words, "--direction="+direction) {
			return pid
		}
	}
	return 0
}

// userPrograms returns the processes of our program by ID, with their arguments.
func userPrograms() map[int][]string {
	all := make(map[int][]string)
	// the command line of an ended process is empty
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		words := strings.Split(string(line), "\x00")
		if filepath.Base(words[0]) == ourProgram {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			all[pid] = words
		}
	}
	return all
}

// killUserPrograms ends those that are left, so that the next test finds none.
func killUserPrograms(t testing.TB) {
	for pid, words := range userPrograms() {
		t.Logf("killing process %d, %q", pid, words)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		for isAlive(pid) {
			time.Sleep(time.Millisecond)
		}
	}
}

// isAlive returns whether a process exists and is no zombie.
func isAlive(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && len(line) > 0
}

// hasTCX returns whether l3afd would attach by TCX: from Linux 6.8 on.
func hasTCX(t testing.TB) bool {
	t.Helper()
	return hasLinux(t, 6, 8)
}

// hasLinux returns whether the kernel has at least this version.
func hasLinux(t testing.TB, wantedMajor, wantedMinor int) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > wantedMajor || major == wantedMajor && minor >= wantedMinor
}

// hasDevice returns whether the host has a network device.
func hasDevice(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}
