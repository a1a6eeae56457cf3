// Package bench measures Berth: `berth bench`. It starts a simulated fleet of Proxmox VE hosts, Berth and a bare net/http
// server, each a process of its own and all of them this very program, and puts load on them over loopback.
//
// What is told first are ratios. Berth and the reference are loaded alternately in the same run, several rounds, and the
// reference sends the same bytes and headers as Berth does, or two bytes. A ratio says how much of the reference's requests
// per second Berth reaches, and how the processor time of the two servers compares, since the client shares the machine
// with them. So a ratio means the same on a slow machine and on a busy one, within the spread that is told beside it.
//
// Everything goes the ways that it goes elsewhere: people sign in over HTTP, and Berth reads the hosts over TLS. What only
// the measured processes can do is in control.go, and nothing of it is in the way of a request: their clocks can be set
// ahead, so that tickets are an hour old, and they tell their goroutines and profiles.
//
// load.go is the client: net/http's own would take as much of the machine as what it measures. process.go reads what a
// process costs, report.go and chart.go write what was found.
package bench
