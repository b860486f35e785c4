// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

// release is what differs between the releases of l3afd, as far as user programs meet it.
type release struct {
	// each version of a package has its pins in a folder of its own, and user programs are told the version
	ownFolders bool
	// programs are pinned, too
	pinsPrograms bool
	// it attaches by TCX where that is there
	tcx bool
	// the program is asked for in the kernel; otherwise what cmd_status prints is taken for its state, too
	asksKernel bool
	// it can be restarted with all that runs (PUT restart)
	restarts bool
}

var releases = map[string]release{
	"v2.0.0": {},
	"v2.1.0": {pinsPrograms: true, restarts: true},
	"main":   {ownFolders: true, pinsPrograms: true, tcx: true, asksKernel: true, restarts: true},
}
