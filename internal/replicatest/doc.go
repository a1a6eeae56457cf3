// Package replicatest owns what the tests of the whole program need to run it as two replicas: what both share, and a load
// balancer in front of them that holds nobody to one.
//
// Only tests import it. BERTH_TEST_REPLICAS=2 turns it on for the tests in internal/app and e2e; without it they run one
// program over the database in its data folder.
package replicatest
