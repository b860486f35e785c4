// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// attachment attaches a program to the interface itself.
type attachment interface {
	detach() error
}

// attach attaches by TCX or, on older kernels, by a filter of clsact.
func (p *program) attach(entry *ebpf.Program) error {
	if !p.tcx {
		return p.attachFilter()
	}
	iface, err := net.InterfaceByName(p.iface)
	if err != nil {
		return err
	}
	where := ebpf.AttachTCXIngress
	if p.direction == "egress" {
		where = ebpf.AttachTCXEgress
	}
	it, err := link.AttachTCX(link.TCXOptions{Program: entry, Interface: iface.Index, Attach: where})
	if err != nil {
		return err
	}
	p.attached = tcxLink{it}
	return it.Pin(p.linkPin())
}

type tcxLink struct{ link.Link }

func (it tcxLink) detach() error {
	return errors.Join(it.Unpin(), it.Close())
}

// filter is the tc arguments that identify a filter.
type filter []string

// attachFilter attaches the pinned program.
func (p *program) attachFilter() error {
	// the qdisc may exist already, and it stays
	_ = tc("qdisc", "add", "dev", p.iface, "clsact")
	it := p.filter()
	// removes the filter of a killed launcher
	_ = it.detach()
	p.attached = it
	program := []string{"bpf", "direct-action", "object-pinned", p.programPin()}
	return tc("filter", slices.Concat([]string{"add"}, it, program)...)
}

func (p *program) filter() filter {
	return filter{"dev", p.iface, p.direction, "protocol", "all", "pref", "1"}
}

func (it filter) detach() error {
	return tc("filter", append([]string{"delete"}, it...)...)
}

func tc(object string, arguments ...string) error {
	said, err := exec.Command("tc", append([]string{object}, arguments...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("tc %s %q: %s", object, arguments, said)
	}
	return nil
}
