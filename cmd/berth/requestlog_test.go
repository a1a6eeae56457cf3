package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"berth/internal/config"
	"berth/internal/fault"
)

// What is logged while a request is served has its id, whatever the form of the log and whatever else is attached.
func TestRequestIDInTheLog(t *testing.T) {
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	var text bytes.Buffer
	setLog(config.LogSettings{JSON: true, Level: slog.LevelInfo}, &text)
	ctx := fault.WithRequest(t.Context(), "abc123")
	for name, log := range map[string]func(){
		"plain":     func() { slog.InfoContext(ctx, "done", "error_id", "e1") },
		"with":      func() { slog.With("node", "n1").InfoContext(ctx, "done") },
		"no caller": func() { slog.InfoContext(t.Context(), "done") },
	} {
		text.Reset()
		log()
		var line map[string]any
		if err := json.Unmarshal(text.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v: %s", name, err, text.Bytes())
		}
		want := any("abc123")
		if name == "no caller" {
			want = nil
		}
		if line["request_id"] != want || line["msg"] != "done" {
			t.Errorf("%s: %s", name, text.Bytes())
		}
	}
}
