// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"l3afd/payload"
)

// restartDirection is the direction that l3afd passes to all user programs at a graceful restart.
const restartDirection = "xdpingress"

const restartSocket = "/tmp/l3afd.sock"

// restart ends the user programs, and lets another launcher take over what runs in the kernel.
func (l *launcher) restart() error {
	if !l.restarts {
		return fmt.Errorf("this release cannot be restarted like that")
	}
	// l3afd hands over its state on this socket; here it is only there for others to see
	socket, err := net.Listen("unix", restartSocket)
	if err != nil {
		return err
	}
	defer socket.Close()
	for _, it := range l.inOrder() {
		if it.UserProgramDaemon {
			if err := it.stopUser(restartDirection); err != nil {
				return err
			}
		}
	}
	// this pipe closes when this process ends, and then the successor begins
	ended, running, err := os.Pipe()
	if err != nil {
		return err
	}
	defer running.Close()
	successor := exec.Command(os.Args[0], "-config", l.path, "-take-over")
	successor.Stdin, successor.Stdout, successor.Stderr = ended, os.Stdout, os.Stderr
	successor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := successor.Start(); err != nil {
		return err
	}
	socket.Close()
	os.Exit(0)
	return nil
}

// takeOver continues what another launcher was running.
func (l *launcher) takeOver() error {
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range l.stored() {
		l.address[it.Iface] = it.IPv4Address
		for _, direction := range directions {
			for _, program := range *it.Programs.In(direction) {
				if err := l.chain(hook{it.Iface, direction}).takeOver(program); err != nil {
					return err
				}
			}
		}
	}
	for _, it := range l.inOrder() {
		if err := it.goOn(); err != nil {
			return fmt.Errorf("%s: %w", it, err)
		}
	}
	return nil
}

// takeOver appends a loaded program.
func (c *chain) takeOver(it *payload.Program) error {
	if c.chaining && c.root == nil {
		root := newRoot(c.config, c.hook)
		if err := root.findPinned(nil); err != nil {
			return err
		}
		c.root = root
	}
	program := &program{Program: *it, config: c.config, hook: c.hook}
	if err := program.findPinned(c.before(len(c.programs))); err != nil {
		return err
	}
	c.programs = append(c.programs, program)
	return nil
}

// findPinned finds the loaded program and maps by their pins.
func (p *program) findPinned(before *program) error {
	spec, err := p.spec()
	if err != nil {
		return err
	}
	p.collection = &ebpf.Collection{
		Programs: make(map[string]*ebpf.Program),
		Maps:     make(map[string]*ebpf.Map),
	}
	for name := range spec.Maps {
		if p.collection.Maps[name], err = ebpf.LoadPinnedMap(p.mapPin(name), nil); err != nil {
			return fmt.Errorf("%s: %w", p.mapPin(name), err)
		}
	}
	entry, err := ebpf.LoadPinnedProgram(p.programPin(), nil)
	if err != nil {
		return fmt.Errorf("%s: %w", p.programPin(), err)
	}
	p.collection.Programs[p.EntryFunctionName] = entry
	switch {
	case before != nil:
	case p.tcx:
		it, err := link.LoadPinnedLink(p.linkPin(), nil)
		if err != nil {
			return fmt.Errorf("%s: %w", p.linkPin(), err)
		}
		p.attached = tcxLink{it}
	default:
		p.attached = p.filter()
	}
	return p.identify(entry)
}

// goOn starts the user program. Before that, l3afd loads the object once more, with the existing
// maps.
func (p *program) goOn() error {
	spec, err := p.spec()
	if err != nil {
		return err
	}
	again, err := ebpf.NewCollectionWithOptions(spec, p.pinnedMaps())
	if err != nil {
		return err
	}
	again.Close()
	if p.CmdStart == "" {
		return nil
	}
	if err := killStrangers(p.CmdStart); err != nil {
		return err
	}
	if !p.UserProgramDaemon {
		return nil
	}
	return p.startUser(nil, restartDirection)
}

// inOrder returns all programs in the order of a restart: by direction, roots first.
func (l *launcher) inOrder() []*program {
	var all []*program
	for _, direction := range directions {
		for at, chain := range l.chains {
			if at.direction != direction {
				continue
			}
			if chain.root != nil {
				all = append(all, chain.root)
			}
			all = append(all, chain.programs...)
		}
	}
	return all
}
