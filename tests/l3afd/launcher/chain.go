// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

import (
	"errors"
	"os"
	"reflect"
	"slices"

	"l3afd/payload"
)

// chain is the programs at one hook, ordered by seq_id. Without chaining there is no root, and the
// only program is attached directly.
type chain struct {
	*config
	hook
	root     *program
	programs []*program
}

// deploy changes a program from its current to its desired state.
func (c *chain) deploy(wanted payload.Program) error {
	i := slices.IndexFunc(c.programs, func(p *program) bool { return p.Name == wanted.Name })
	if i < 0 {
		return c.add(wanted)
	}
	it := c.programs[i]
	now := it.Program
	switch {
	case reflect.DeepEqual(now, wanted):
		return nil
	case wanted.AdminStatus == payload.Disabled:
		return c.remove(wanted.Name)
	case now.Version != wanted.Version || !reflect.DeepEqual(now.StartArgs, wanted.StartArgs):
		if err := it.stop(); err != nil {
			return err
		}
		it.Program = wanted
		return c.start(i)
	}
	it.Program = wanted
	if now.SeqID != wanted.SeqID {
		if err := c.move(i); err != nil {
			return err
		}
	}
	if !reflect.DeepEqual(now.UpdateArgs, wanted.UpdateArgs) {
		return it.update()
	}
	return nil
}

func (c *chain) add(wanted payload.Program) error {
	if wanted.AdminStatus == payload.Disabled {
		return nil
	}
	if c.chaining && c.root == nil {
		root := newRoot(c.config, c.hook)
		// its programs are loaded anew as well
		os.Remove(root.mapPin(root.MapName))
		if err := root.start(nil); err != nil {
			return err
		}
		c.root = root
	} else if !c.chaining && len(c.programs) > 0 {
		return errors.New("without chaining there is one program at most")
	}
	i := c.place(wanted.SeqID)
	c.programs = slices.Insert(c.programs, i, &program{Program: wanted, config: c.config, hook: c.hook})
	if err := c.start(i); err != nil {
		c.programs = slices.Delete(c.programs, i, i+1)
		return err
	}
	return nil
}

// remove ends a program. Its successor takes its place. The root ends with the last program.
func (c *chain) remove(name string) error {
	i := slices.IndexFunc(c.programs, func(p *program) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	if err := c.programs[i].stop(); err != nil {
		return err
	}
	c.programs = slices.Delete(c.programs, i, i+1)
	if err := c.link(i); err != nil {
		return err
	}
	if len(c.programs) == 0 && c.root != nil {
		root := c.root
		c.root = nil
		return root.stop()
	}
	return nil
}

// revive restarts what has ended of a program: its daemon, or all of it.
func (c *chain) revive(it *program, user, kernel bool) error {
	i := slices.Index(c.programs, it)
	if kernel {
		return it.startUser(c.before(i), c.direction)
	}
	if it.UserProgramDaemon && user {
		if err := it.stop(); err != nil {
			return err
		}
	}
	return c.start(i)
}

// start starts the i-th program between its neighbours.
func (c *chain) start(i int) error {
	if err := c.programs[i].start(c.before(i)); err != nil {
		return err
	}
	return c.link(i + 1)
}

// move puts the i-th program where its seq_id belongs. Like l3afd, it first leaves the old place.
func (c *chain) move(i int) error {
	it := c.programs[i]
	c.programs = slices.Delete(c.programs, i, i+1)
	if err := c.link(i); err != nil {
		return err
	}
	i = c.place(it.SeqID)
	c.programs = slices.Insert(c.programs, i, it)
	return errors.Join(c.link(i), c.link(i+1))
}

// place is the index for a program with this seq_id.
func (c *chain) place(seqID int) int {
	i := slices.IndexFunc(c.programs, func(p *program) bool { return p.SeqID >= seqID })
	if i < 0 {
		return len(c.programs)
	}
	return i
}

func (c *chain) before(i int) *program {
	if i == 0 {
		return c.root
	}
	return c.programs[i-1]
}

// link connects the i-th program to the one before it. The last program leads to none.
func (c *chain) link(i int) error {
	if !c.chaining {
		return nil
	}
	before := c.before(i)
	if i == len(c.programs) {
		before.leadNowhere()
		return nil
	}
	return before.leadTo(c.programs[i].id)
}
