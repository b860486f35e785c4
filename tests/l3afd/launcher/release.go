// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

// release is what differs between releases of l3afd, as far as user programs notice.
type release struct {
	// each package version has its pins in a directory of its own, and user programs are told the
	// version
	ownFolders bool
	// programs are pinned as well
	pinsPrograms bool
	// it attaches by TCX where the kernel has it
	tcx bool
	// it asks the kernel for the program; otherwise it also takes the output of cmd_status for the
	// program's state
	asksKernel bool
	// it can be restarted while everything runs on (PUT restart)
	restarts bool
}

var releases = map[string]release{
	"v2.0.0": {},
	"v2.1.0": {pinsPrograms: true, restarts: true},
	"main":   {ownFolders: true, pinsPrograms: true, tcx: true, asksKernel: true, restarts: true},
}
