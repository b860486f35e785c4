// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

// Launcher launches packages as the releases of l3afd 2 do, and no more than the tests ask for: with the
// same library, in the same steps, by the same configuration and the same REST interface. So the tests
// that run with it run with l3afd itself, too.
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
