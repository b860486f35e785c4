// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

// Package payload has the types that l3afd's REST interface accepts, in l3afd's terms.
package payload

// Deployment is what shall run on one interface of a host.
type Deployment struct {
	HostName    string   `json:"host_name"`
	Iface       string   `json:"iface"`
	IPv4Address string   `json:"ipv4_address"`
	Programs    Programs `json:"bpf_programs"`
}

// Removal names the programs to remove from an interface.
type Removal struct {
	HostName string `json:"host_name"`
	Iface    string `json:"iface"`
	Names    Names  `json:"bpf_programs"`
}

type Programs struct {
	Ingress []*Program `json:"tc_ingress,omitempty"`
	Egress  []*Program `json:"tc_egress,omitempty"`
}

type Names struct {
	Ingress []string `json:"tc_ingress,omitempty"`
	Egress  []string `json:"tc_egress,omitempty"`
}

// In returns the programs of one direction.
func (p *Programs) In(direction string) *[]*Program {
	if direction == "ingress" {
		return &p.Ingress
	}
	return &p.Egress
}

// In returns the names of one direction.
func (n *Names) In(direction string) *[]string {
	if direction == "ingress" {
		return &n.Ingress
	}
	return &n.Egress
}

const (
	Enabled  = "enabled"
	Disabled = "disabled"
)

type Args map[string]string

// Program is one program of a chain: kernel side, user program, or both.
type Program struct {
	Name              string       `json:"name"`
	SeqID             int          `json:"seq_id"`
	Artifact          string       `json:"artifact"`
	MapName           string       `json:"map_name"`
	CmdStart          string       `json:"cmd_start"`
	CmdStop           string       `json:"cmd_stop"`
	CmdStatus         string       `json:"cmd_status"`
	CmdUpdate         string       `json:"cmd_update"`
	Version           string       `json:"version"`
	UserProgramDaemon bool         `json:"user_program_daemon"`
	CPU               uint64       `json:"cpu"`    // seconds
	Memory            uint64       `json:"memory"` // bytes of address space
	AdminStatus       string       `json:"admin_status"`
	ProgType          string       `json:"prog_type"`
	RulesFile         string       `json:"rules_file"`
	Rules             string       `json:"rules"`
	CfgVersion        int          `json:"cfg_version"`
	StartArgs         Args         `json:"start_args"`
	StopArgs          Args         `json:"stop_args"`
	StatusArgs        Args         `json:"status_args"`
	UpdateArgs        Args         `json:"update_args"`
	MonitorMaps       []MonitorMap `json:"monitor_maps"`
	ObjectFile        string       `json:"object_file"`
	EntryFunctionName string       `json:"entry_function_name"`
}

// MonitorMap is one number of a map that is published as a metric.
type MonitorMap struct {
	Name       string `json:"name"`
	Key        uint32 `json:"key"`
	Aggregator string `json:"aggregator"`
}
