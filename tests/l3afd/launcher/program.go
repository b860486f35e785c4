// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"l3afd/payload"
)

// patience is how long a user program may take for its changes to the chain.
const patience = 10 * time.Second

// program is one program of a chain.
type program struct {
	payload.Program
	*config
	hook
	collection *ebpf.Collection // nil: the user program loads its own
	attached   attachment       // nil: the program before it calls it
	next       *ebpf.Map        // the program's jump table
	id         ebpf.ProgramID
	user       *exec.Cmd // nil: no daemon
	restarts   int
}

// newRoot makes the first program in the chain of a hook.
func newRoot(config *config, at hook) *program {
	return &program{
		Program: payload.Program{
			Name:              "tc-root",
			Artifact:          "l3af_tc_root.tar.gz",
			Version:           "latest",
			MapName:           fmt.Sprintf("tc_%s_root_array", at.direction),
			ObjectFile:        fmt.Sprintf("tc_root_%s.bpf.o", at.direction),
			EntryFunctionName: fmt.Sprintf("tc_%s_root", at.direction),
		},
		config: config,
		hook:   at,
	}
}

func (p *program) String() string {
	return fmt.Sprintf("%s %s %s", p.Name, p.iface, p.direction)
}

// version is the version in paths and for user programs.
func (p *program) version() string {
	return strings.ReplaceAll(p.Version, ".", "_")
}

// directories of pins
const (
	maps     = "tc/globals"
	programs = "progs"
	links    = "links"
)

func (p *program) pins(kind, name string) string {
	if !p.ownFolders {
		return filepath.Join(p.bpffs, kind, p.iface, name)
	}
	return filepath.Join(p.bpffs, kind, p.iface, p.Name, p.version(), name)
}

func (p *program) mapPin(name string) string { return p.pins(maps, name) }
func (p *program) programPin() string        { return p.pins(programs, p.EntryFunctionName+"_tc") }
func (p *program) linkPin() string           { return p.pins(links, p.Name+"_tc_"+p.direction) }

// start loads the program, connects it to its packets, and starts the user program.
func (p *program) start(before *program) error {
	if err := p.unpack(); err != nil {
		return err
	}
	if p.CmdStart != "" {
		if err := killStrangers(p.CmdStart); err != nil {
			return err
		}
	}
	// a killed program may have left them
	os.Remove(p.programPin())
	os.Remove(p.linkPin())
	if before != nil {
		before.leadNowhere()
	}
	if p.ObjectFile != "" {
		if err := p.load(before); err != nil {
			return fmt.Errorf("cannot load %s: %w", p, err)
		}
	}
	if p.CmdStart != "" {
		if err := p.startUser(before, p.direction); err != nil {
			return err
		}
	}
	if p.chaining && p.collection == nil {
		if err := p.findLoaded(before); err != nil {
			return err
		}
	}
	if len(p.UpdateArgs) > 0 {
		if err := p.update(); err != nil {
			return err
		}
	}
	if user, kernel := p.isRunning(); !user && !kernel {
		return fmt.Errorf("%s does not run", p)
	}
	return nil
}

// load loads the object, and connects it to the program before it or to the interface.
func (p *program) load(before *program) error {
	spec, err := p.spec()
	if err != nil {
		return err
	}
	for _, kind := range []string{maps, programs, links} {
		if err := os.MkdirAll(p.pins(kind, ""), 0o750); err != nil {
			return err
		}
	}
	p.collection, err = ebpf.NewCollectionWithOptions(spec, p.pinnedMaps())
	if err != nil {
		return err
	}
	entry := p.collection.Programs[p.EntryFunctionName]
	if entry == nil {
		return fmt.Errorf("no program %q", p.EntryFunctionName)
	}
	if err := p.pinMaps(); err != nil {
		return err
	}
	if err := p.identify(entry); err != nil {
		return err
	}
	if err := entry.Pin(p.programPin()); err != nil {
		return err
	}
	if before != nil {
		err = before.leadTo(p.id)
	} else {
		err = p.attach(entry)
	}
	if err == nil && !p.pinsPrograms {
		err = entry.Unpin()
	}
	return err
}

// spec reads the object.
func (p *program) spec() (*ebpf.CollectionSpec, error) {
	path := filepath.Join(p.folder(), p.ObjectFile)
	spec, err := ebpf.LoadCollectionSpec(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return spec, nil
}

// identify notes the loaded program and its jump table.
func (p *program) identify(entry *ebpf.Program) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	p.id, _ = info.ID()
	next := p.collection.Maps[p.MapName]
	if next == nil {
		return fmt.Errorf("no map %q", p.MapName)
	}
	p.next, err = next.Clone()
	return err
}

// pinnedMaps makes a collection reuse pinned maps.
func (p *program) pinnedMaps() ebpf.CollectionOptions {
	return ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: p.mapPin("")}}
}

// pinMaps pins the maps, and sets monitored values to 0.
func (p *program) pinMaps() error {
	for _, it := range p.MonitorMaps {
		if monitored := p.collection.Maps[it.Name]; monitored != nil {
			if err := monitored.Put(uint32(0), uint64(0)); err != nil {
				return fmt.Errorf("%s: %w", it.Name, err)
			}
		}
	}
	for name, it := range p.collection.Maps {
		if name == ".bss" {
			continue
		}
		if _, err := os.Stat(p.mapPin(name)); err == nil {
			continue
		}
		if err := it.Pin(p.mapPin(name)); err != nil {
			return err
		}
	}
	return nil
}

// findLoaded waits for what the user program loads.
func (p *program) findLoaded(before *program) error {
	return eventually(func() (err error) {
		if p.next, err = ebpf.LoadPinnedMap(p.mapPin(p.MapName), nil); err != nil {
			return err
		}
		var id uint32
		if err := before.next.Lookup(uint32(0), &id); err != nil {
			return fmt.Errorf("%s is not in the chain: %w", p, err)
		}
		p.id = ebpf.ProgramID(id)
		return p.probe()
	})
}

// probe returns whether the program is loaded.
func (p *program) probe() error {
	loaded, err := ebpf.NewProgramFromID(p.id)
	if err != nil {
		return err
	}
	return loaded.Close()
}

// stop ends the user program and unloads the program.
func (p *program) stop() error {
	if p.UserProgramDaemon {
		if p.user == nil {
			return fmt.Errorf("%s does not run", p)
		}
		if err := p.stopUser(p.direction); err != nil {
			return err
		}
	}
	p.id = 0
	if p.collection != nil {
		if err := p.unload(); err != nil {
			return err
		}
	}
	if p.next != nil {
		p.next.Close()
		p.next = nil
	}
	if !p.chaining {
		return nil
	}
	return eventually(func() error {
		if _, err := os.Stat(p.mapPin(p.MapName)); !os.IsNotExist(err) {
			return fmt.Errorf("%s is still pinned", p.mapPin(p.MapName))
		}
		return nil
	})
}

// unload removes the pins and everything else that holds the program.
func (p *program) unload() error {
	var failures []error
	for _, it := range p.collection.Maps {
		failures = append(failures, it.Unpin())
	}
	for _, it := range p.collection.Programs {
		failures = append(failures, it.Unpin())
	}
	if p.attached != nil {
		failures = append(failures, p.attached.detach())
		p.attached = nil
	}
	p.collection.Close()
	p.collection = nil
	return errors.Join(failures...)
}

// leadTo makes this program call another one next.
func (p *program) leadTo(id ebpf.ProgramID) error {
	successor, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer successor.Close()
	return p.next.Put(uint32(0), successor)
}

// leadNowhere removes the next program, if there is one.
func (p *program) leadNowhere() {
	_ = p.next.Delete(uint32(0))
}

// read reads a monitored value.
func (p *program) read(it payload.MonitorMap) (float64, error) {
	if p.collection == nil || p.collection.Maps[it.Name] == nil {
		return 0, fmt.Errorf("%s has no map %q", p, it.Name)
	}
	if it.Aggregator != "scalar" {
		return 0, fmt.Errorf("%s: no aggregator but \"scalar\" is known here", it.Name)
	}
	var value int64
	err := p.collection.Maps[it.Name].Lookup(it.Key, &value)
	return float64(value), err
}

// eventually retries until it works, or patience runs out.
func eventually(try func() error) error {
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := try()
		if err == nil || time.Since(start) > patience {
			return err
		}
	}
}
