// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"l3afd/payload"
)

// startUser runs the user program to its end, or as a daemon. The direction may not be the
// program's own.
func (p *program) startUser(before *program, direction string) error {
	arguments := append(p.place(direction), p.versionFlag()...)
	if p.chaining && p.collection == nil {
		arguments = append(arguments, "--map-name="+before.mapPin(before.MapName))
	}
	arguments = append(arguments, p.logDir()...)
	if p.RulesFile != "" && p.Rules != "" {
		path := filepath.Join(p.folder(), direction, p.RulesFile)
		if err := os.WriteFile(path, []byte(p.Rules), 0o644); err != nil {
			log.Print(err)
		} else {
			arguments = append(arguments, "--rules-file="+path)
		}
	}
	arguments = append(arguments, words(p.StartArgs, "=")...)

	command := p.command(p.CmdStart, arguments)
	if !p.UserProgramDaemon {
		if err := command.Run(); err != nil {
			log.Printf("%s: %v", command, err)
		}
		return nil
	}
	if err := command.Start(); err != nil {
		return err
	}
	p.user = command
	return p.limit()
}

// limit applies the payload's limits to a daemon that has just started.
func (p *program) limit() error {
	limits := map[int]uint64{unix.RLIMIT_CPU: p.CPU, unix.RLIMIT_AS: p.Memory}
	for resource, limit := range limits {
		if limit == 0 {
			continue
		}
		both := unix.Rlimit{Cur: limit, Max: limit}
		if err := unix.Prlimit(p.user.Process.Pid, resource, &both, nil); err != nil {
			return err
		}
	}
	return nil
}

// stopUser ends a daemon. Without a stop command, it sends a signal and waits.
func (p *program) stopUser(direction string) error {
	user := p.user
	p.user = nil
	if p.CmdStop == "" {
		if err := user.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		if err := user.Wait(); err != nil {
			log.Printf("%s: %v", p, err)
		}
		return nil
	}
	command := p.command(p.CmdStop, append(p.place(direction), words(p.StopArgs, " =")...))
	if err := command.Run(); err != nil {
		log.Printf("%s: %v", command, err)
	}
	return nil
}

// update passes new arguments to the user program.
func (p *program) update() error {
	arguments := append(append(p.place(p.direction), "--cmd=update"), p.versionFlag()...)
	arguments = append(arguments, p.logDir()...)
	command := p.command(p.CmdUpdate, append(arguments, words(p.UpdateArgs, "=")...))
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// isRunning returns whether the user program works, and whether the program is loaded.
func (p *program) isRunning() (user, kernel bool) {
	user = true
	switch {
	case p.CmdStatus != "":
		command := p.command(p.CmdStatus, words(p.StatusArgs, " ="))
		// the exit code says no more than the output
		said, _ := command.CombinedOutput()
		user = strings.EqualFold(string(said), "RUNNING")
		if !user {
			log.Printf("%s: %q", command, said)
		}
	case p.CmdStart != "" && p.UserProgramDaemon:
		user = p.user != nil && isAlive(p.user.Process.Pid)
	}
	if p.CmdStatus != "" && !p.asksKernel {
		return user, user
	}
	return user, p.id != 0 && p.probe() == nil
}

func (p *program) command(name string, arguments []string) *exec.Cmd {
	return exec.Command(filepath.Join(p.folder(), name), arguments...)
}

func (p *program) place(direction string) []string {
	return []string{"--iface=" + p.iface, "--direction=" + direction}
}

func (p *program) versionFlag() []string {
	if !p.ownFolders {
		return nil
	}
	return []string{"--version=" + p.version()}
}

func (p *program) logDir() []string {
	if p.logs == "" {
		return nil
	}
	return []string{"--log-dir=" + p.logs}
}

// words makes one word of each argument. Their order varies.
func words(arguments payload.Args, equals string) []string {
	var all []string
	for name, value := range arguments {
		all = append(all, "--"+name+equals+value)
	}
	return all
}

// killStrangers kills processes of that name which others have started.
func killStrangers(name string) error {
	// the kernel truncates names to 15 bytes
	name = name[:min(len(name), 15)]
	processes, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	for _, path := range processes {
		comm, fields := stat(path)
		if !strings.Contains(comm, name) || fields[1] == strconv.Itoa(os.Getpid()) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return err
		}
		log.Printf("killing process %d, %s, which somebody else has started", pid, comm)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return err
		}
	}
	return nil
}

func isAlive(pid int) bool {
	_, fields := stat(fmt.Sprintf("/proc/%d/stat", pid))
	return !slices.Contains([]string{"", "Z"}, fields[0])
}

// stat reads a process's name, state and parent (proc_pid_stat(5)); they are empty if it has ended.
func stat(path string) (comm string, fields [2]string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fields
	}
	begin, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	copy(fields[:], strings.Fields(string(text[end+1:])))
	return string(text[begin+1 : end]), fields
}
