// Package e2e owns the tests of Berth as people meet it: a real browser, the real binary, and simulated Proxmox VE hosts
// (package sim) that the tests control. It holds no code of the program.
//
// The tests start `berth serve` as a process of its own wherever they can. Where Berth's clock has to move they run
// package app in the test process instead, over the same TCP and TLS.
//
// With BERTH_TEST_REPLICAS=2 what they start is two replicas over PostgreSQL and Redis behind a load balancer, all but
// `berth demo`.
//
// They need Chromium (chromium, chromium-browser or google-chrome in PATH) and are skipped without it. The
// accessibility checks need axe-core in web/node_modules (npm ci in web/) and are skipped without it. The variable
// BERTH_TEST_REQUIRE, a list such as "chromium,axe", makes a missing one a failure.
//
// Pictures of every page in every state go to pictures/, which git ignores.
//
// What a single page shows for given data is tested beside that page (internal/web, internal/web/view); here is only
// what takes a browser to find out.
package e2e
