// Package outage owns the tests of what goes wrong around Berth while people use it: processes that are killed, Redis and
// PostgreSQL that are restarted or cut off, a disk that is full, an update from one version to the next. It holds no code of the
// program.
//
// The tests drive the real binary from outside: replicas as processes of their own (process_test.go), over a real PostgreSQL and
// Redis, in front of a simulated Proxmox VE host that the test controls (world_test.go). Several people use all of it at once, and
// each fault comes at 20 instants. What was acknowledged to them is written down (ledger_test.go) and compared with what the host
// carried out: nothing that was acknowledged is lost, nothing is done twice, no lock outlives its lease, and nobody is shown what
// is somebody else's.
//
// The instants follow from a seed, which each test logs; BERTH_TEST_SEED sets another one, or the same again. What a machine
// does in the same moment differs from run to run all the same.
//
// Single parts under the same faults are tested beside those parts (internal/redis, internal/app, cmd/berth).
package outage
