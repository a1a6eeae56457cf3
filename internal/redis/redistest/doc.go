// Package redistest owns redis-server processes for tests: started on ports of their own, killed, silenced and started again.
package redistest
