// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

// Launcher launches packages as the releases of l3afd 2 do, but does no more than the tests need.
// It uses the same library, steps, configuration and REST interface. So the same tests run with
// l3afd itself.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"
)

func main() {
	path := flag.String("config", "l3afd.cfg", "the configuration, as l3afd's")
	takeOver := flag.Bool("take-over", false, "take over what the parent runs, once that has ended")
	flag.Parse()

	config, err := readConfig(*path)
	if err != nil {
		log.Fatal(err)
	}
	launcher := newLauncher(config)
	if *takeOver {
		if err := launcher.takeOver(); err != nil {
			log.Fatal(err)
		}
	} else {
		launcher.restore()
	}
	config.writePID()
	go launcher.every(config.pollInterval, launcher.checkPrograms)
	go launcher.every(time.Second, launcher.readMonitorMaps)

	serve(config.debugAddress, "/bpfs/", launcher.showChain)
	serve(config.metricsAddress, "/metrics", launcher.showMetrics)
	serve(config.restAddress, "/l3af/configs/v1/", launcher.configure)
	select {}
}

func serve(address, path string, handler http.HandlerFunc) {
	mux := http.NewServeMux()
	mux.HandleFunc(path, handler)
	go func() { log.Fatal(http.ListenAndServe(address, mux)) }()
}
