package config

import (
	"path/filepath"
	"strings"
)

// Migrate are the flags of `berth migrate` as they were given.
type Migrate struct {
	From string `placeholder:"DATABASE" env:"BERTH_MIGRATE_FROM" help:"Database to move from: sqlite:FOLDER, or postgres://berth@db.lan/berth."`
	To   string `placeholder:"DATABASE" env:"BERTH_MIGRATE_TO" help:"Database to move to, with nothing in it, named in the same way."`
}

// Place is where a database is.
type Place struct {
	Folder string // with the file in it; empty for one on a server
	Server string // address, maybe with a password
}

// Check turns flags into the two places, or returns Problems.
func (m Migrate) Check() (from, to Place, err error) {
	var p Problems
	from = checkPlace(&p, "from", "BERTH_MIGRATE_FROM", m.From)
	to = checkPlace(&p, "to", "BERTH_MIGRATE_TO", m.To)
	if from == to && from != (Place{}) {
		p.add("to", "BERTH_MIGRATE_TO", "it is the same database as --from")
	}
	return from, to, p.OrNil()
}

// checkPlace reads the name of a database, and repeats nothing of it in problems: it may hold a password.
func checkPlace(p *Problems, flag, variable, text string) Place {
	path, isFile := strings.CutPrefix(text, "sqlite:")
	switch {
	case isFile && path != "" && isPath(p, flag, variable, path):
		if filepath.Base(path) == "berth.db" {
			path = filepath.Dir(path)
		}
		return Place{Folder: filepath.Clean(path)}
	case !isFile && isPostgres(text):
		return Place{Server: text}
	}
	p.add(flag, variable, "it is neither sqlite:FOLDER nor the URL of a PostgreSQL database, for example postgres://berth@db.lan/berth")
	return Place{}
}
