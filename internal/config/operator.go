package config

import "path/filepath"

// Installation are the flags that say which installation a command works on from outside, as they were given.
type Installation struct {
	Data string `placeholder:"FOLDER" env:"BERTH_DATA" help:"Folder of the installation. Default: berth in the XDG state folder."`
	Key  string `name:"key-file" placeholder:"FILE" env:"BERTH_KEY_FILE" help:"Key that secrets are sealed with. Default: berth.key in the data folder."`
	Database
	Shared
}

// Operator are the flags of the commands that work on an installation and call Proxmox hosts, as they were given.
type Operator struct {
	Installation  `embed:""`
	AllowNetworks []string `placeholder:"CIDR" env:"BERTH_ALLOW_NETWORKS" help:"Networks that Proxmox hosts may be in. Default: all."`
	CAFile        string   `name:"ca-file" placeholder:"FILE" env:"BERTH_CA_FILE" help:"Certificate authorities (PEM) that Proxmox hosts' certificates may come from, beside the system's."`
}

// Check turns flags into settings, or returns Problems.
func (i Installation) Check() (Settings, error) { return Operator{Installation: i}.Check() }

// Check turns flags into settings, or returns Problems.
func (o Operator) Check() (Settings, error) {
	var p Problems
	out := Settings{Data: o.Data, KeyFile: o.Key}
	if out.Data == "" {
		folder, err := stateFolder()
		if err != nil {
			p.add("data", "BERTH_DATA", "there is no default folder here (%v), so it has to be given", err)
		}
		out.Data = folder
	}
	out.Database = o.Database.check(&p)
	out.Redis = o.Shared.check(&p)
	if out.KeyFile == "" {
		out.KeyFile = filepath.Join(out.Data, keyFileName)
	}
	Serve{AllowNetworks: o.AllowNetworks, CAFile: o.CAFile, LoginHosts: "claim"}.checkHosts(&p, &out)
	return out, p.OrNil()
}
