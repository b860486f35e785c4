// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"l3afd/payload"
)

// launcher has all chains of the host. Every operation takes its lock.
type launcher struct {
	*config
	mu      sync.Mutex
	chains  map[hook]*chain
	address map[string]string // addresses of the interfaces, as in the payloads
	metrics map[string]float64
}

// hook is where a chain of programs gets its packets.
type hook struct {
	iface     string
	direction string
}

var directions = []string{"ingress", "egress"}

func newLauncher(config *config) *launcher {
	return &launcher{
		config:  config,
		chains:  make(map[hook]*chain),
		address: make(map[string]string),
		metrics: make(map[string]float64),
	}
}

// deploy makes the programs run as described, and starts those that do not run yet.
func (l *launcher) deploy(deployments []payload.Deployment) error {
	var failures []error
	for _, it := range deployments {
		if hostName, _ := os.Hostname(); it.HostName != hostName {
			return fmt.Errorf("%q is not the name of this host", it.HostName)
		}
		l.address[it.Iface] = it.IPv4Address
		for _, direction := range directions {
			for _, program := range *it.Programs.In(direction) {
				err := l.chain(hook{it.Iface, direction}).deploy(*program)
				failures = append(failures, err)
			}
		}
	}
	l.drop()
	return errors.Join(append(failures, l.save())...)
}

// remove ends the named programs.
func (l *launcher) remove(removals []payload.Removal) error {
	var failures []error
	for _, it := range removals {
		for _, direction := range directions {
			for _, name := range *it.Names.In(direction) {
				failures = append(failures, l.chain(hook{it.Iface, direction}).remove(name))
			}
		}
	}
	l.drop()
	return errors.Join(append(failures, l.save())...)
}

func (l *launcher) chain(at hook) *chain {
	if l.chains[at] == nil {
		l.chains[at] = &chain{config: l.config, hook: at}
	}
	return l.chains[at]
}

// drop forgets empty chains.
func (l *launcher) drop() {
	for at, chain := range l.chains {
		if len(chain.programs) == 0 {
			delete(l.chains, at)
		}
	}
}

// deployed returns what runs, as a payload.
func (l *launcher) deployed() []payload.Deployment {
	hostName, _ := os.Hostname()
	var all []payload.Deployment
	for iface, address := range l.address {
		it := payload.Deployment{HostName: hostName, Iface: iface, IPv4Address: address}
		for _, direction := range directions {
			programs := it.Programs.In(direction)
			for _, program := range l.chain(hook{iface, direction}).programs {
				*programs = append(*programs, &program.Program)
			}
		}
		all = append(all, it)
	}
	l.drop()
	return all
}

func (l *launcher) save() error {
	text, err := json.Marshal(l.deployed())
	if err != nil {
		return err
	}
	return os.WriteFile(l.store, text, 0o644)
}

// stored returns what ran when another launcher ended.
func (l *launcher) stored() []payload.Deployment {
	text, err := os.ReadFile(l.store)
	if err != nil {
		return nil
	}
	var stored []payload.Deployment
	if err := json.Unmarshal(text, &stored); err != nil {
		log.Fatalf("%s: %v", l.store, err)
	}
	return stored
}

// restore starts what ran when another launcher was killed.
func (l *launcher) restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.deploy(l.stored()); err != nil {
		log.Print(err)
	}
}

// every calls a function periodically.
func (l *launcher) every(interval time.Duration, call func()) {
	for range time.Tick(interval) {
		l.mu.Lock()
		call()
		l.mu.Unlock()
	}
}

// programs returns all programs but the roots.
func (l *launcher) programs() []*program {
	var all []*program
	for _, chain := range l.chains {
		all = append(all, chain.programs...)
	}
	return all
}

// checkPrograms restarts what has ended.
func (l *launcher) checkPrograms() {
	for _, program := range l.programs() {
		user, kernel := program.isRunning()
		l.metrics[l.runningMetric(program)] = 0
		if user && kernel {
			l.metrics[l.runningMetric(program)] = 1
			continue
		}
		if program.restarts >= l.maxRestarts {
			continue
		}
		program.restarts++
		log.Printf("%s does not run: user program %t, program in the kernel %t", program, user, kernel)
		if err := l.chain(program.hook).revive(program, user, kernel); err != nil {
			log.Print(err)
		}
	}
}

func (l *launcher) readMonitorMaps() {
	for _, program := range l.programs() {
		for _, it := range program.MonitorMaps {
			value, err := program.read(it)
			if err != nil {
				log.Print(err)
				continue
			}
			l.metrics[l.monitorMetric(program, it)] = value
		}
	}
}

// names of metrics, with labels in alphabetical order, as Prometheus writes them

func (l *launcher) runningMetric(program *program) string {
	hostName, _ := os.Hostname()
	return fmt.Sprintf(
		"l3afd_BPFRunning{direction=%q,ebpf_program=%q,host=%q,interface_name=%q,ipv4_address=%q,version=%q}",
		program.direction, program.Name, hostName, program.iface, l.address[program.iface], program.Version)
}

func (l *launcher) monitorMetric(program *program, it payload.MonitorMap) string {
	hostName, _ := os.Hostname()
	return fmt.Sprintf(
		"l3afd_BPFMonitorMap{ebpf_program=%q,host=%q,interface_name=%q,ipv4_address=%q,map_name=\"%s_%d_%s\"}",
		program.Name, hostName, program.iface, l.address[program.iface], it.Name, it.Key, it.Aggregator)
}
