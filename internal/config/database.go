package config

import (
	"io"
	"net/url"
	"os"
	"strings"
)

// Database are the flags that say where an installation keeps what it has to remember, as they were given.
type Database struct {
	Database     string `placeholder:"URL" env:"BERTH_DATABASE" help:"PostgreSQL database, for example postgres://berth@db.lan/berth. Default: a file in the data folder."`
	DatabaseFile string `name:"database-file" placeholder:"FILE" env:"BERTH_DATABASE_FILE" help:"File with the URL of --database in it, where that holds a password."`
}

// check returns the address of the database, which may hold a password: it is repeated nowhere. Empty is the file in the data
// folder.
func (d Database) check(p *Problems) string {
	address, flag, variable := d.Database, "database", "BERTH_DATABASE"
	if d.DatabaseFile != "" {
		flag, variable = "database-file", "BERTH_DATABASE_FILE"
		if d.Database != "" {
			p.add(flag, variable, "it can't be combined with --database")
			return ""
		}
		address = secretFile(p, flag, variable, d.DatabaseFile)
	}
	if address != "" && !isPostgres(address) {
		p.add(flag, variable, "it is not the URL of a PostgreSQL database, for example postgres://berth@db.lan/berth")
		return ""
	}
	return address
}

// isPostgres tells whether a text is the URL of a PostgreSQL database. An @ in the path is of a password that was not written as in a
// URL: a part of it would be taken for the server's name, and be shown.
func isPostgres(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") && strings.Trim(u.Path, "/") != "" && u.Fragment == "" && !strings.Contains(u.EscapedPath(), "@")
}

// maxSecret bounds what is read from a file that holds a secret.
const maxSecret = 4 << 10

// secretFile reads the one line that a file holds, or adds a problem and returns nothing.
func secretFile(p *Problems, flag, variable, path string) string {
	if !isPath(p, flag, variable, path) {
		return ""
	}
	file, err := os.Open(path)
	if err != nil {
		p.add(flag, variable, "%v", err)
		return ""
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	text := strings.TrimSpace(string(raw))
	switch {
	case err != nil:
		p.add(flag, variable, "%v", err)
	case text == "" || len(raw) > maxSecret || strings.ContainsAny(text, "\n\r\x00"):
		p.add(flag, variable, "%s must hold one line", path)
	default:
		return text
	}
	return ""
}
