// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"path"

	"l3afd/payload"
)

// configure accepts payloads: of programs to run, or to remove.
func (l *launcher) configure(answer http.ResponseWriter, request *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	body, err := io.ReadAll(request.Body)
	if err == nil {
		switch command := path.Base(request.URL.Path); command {
		case "add", "update":
			err = parsed(body, l.deploy)
		case "delete":
			err = parsed(body, l.remove)
		case "restart":
			err = l.restart()
		default:
			http.NotFound(answer, request)
			return
		}
	}
	if err != nil {
		log.Print(err)
		http.Error(answer, err.Error(), http.StatusInternalServerError)
	}
}

func parsed[T payload.Deployment | payload.Removal](body []byte, do func([]T) error) error {
	var all []T
	if err := json.Unmarshal(body, &all); err != nil {
		return err
	}
	return do(all)
}

// shown is what l3afd reports of a program in its chains, as far as the tests read it.
type shown struct {
	Program      payload.Program
	RestartCount int
	ProgID       uint32
}

func (l *launcher) showChain(answer http.ResponseWriter, request *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := []shown{}
	for _, direction := range directions {
		if chain := l.chains[hook{path.Base(request.URL.Path), direction}]; chain != nil {
			for _, it := range chain.programs {
				all = append(all, shown{it.Program, it.restarts, uint32(it.id)})
			}
		}
	}
	if err := json.NewEncoder(answer).Encode(all); err != nil {
		log.Print(err)
	}
}

func (l *launcher) showMetrics(answer http.ResponseWriter, _ *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for metric, value := range l.metrics {
		fmt.Fprintf(answer, "%s %g\n", metric, value)
	}
}
