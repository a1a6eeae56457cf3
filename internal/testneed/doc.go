// Package testneed owns what happens to a test that lacks something on this machine: it is skipped with a sentence that
// says what is missing, or fails where BERTH_TEST_REQUIRE, a list such as "chromium,nginx", says that it must be there.
//
// Only tests import it. It installs and starts nothing; a database and an address of a test's own go with the test.
package testneed
