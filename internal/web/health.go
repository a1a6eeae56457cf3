package web

import (
	"net/http"

	"berth/internal/fault"
)

// health is the answer of the probes.
type health struct {
	Status string `json:"status"`
}

// healthz tells that the process answers.
func (s *Site) healthz(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	return WriteJSON(w, health{Status: "ok"})
}

// readyz tells whether the stores answer too, and which does not where Options.Ready says so by a fault.
func (s *Site) readyz(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	if err := s.o.Ready(r.Context()); err != nil {
		if fault.As(err) != nil {
			return err
		}
		return fault.StoreDown(err)
	}
	return WriteJSON(w, health{Status: "ok"})
}
