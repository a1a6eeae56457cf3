package task

// labels are what tasks do, as Proxmox VE's own page puts it.
var labels = map[string]string{
	"vzstart": "Start", "vzstop": "Stop", "vzshutdown": "Shut down", "vzreboot": "Reboot", "vzsuspend": "Suspend", "vzresume": "Resume",
	"vzdestroy": "Delete", "vzcreate": "Create", "vzrestore": "Restore", "vzclone": "Clone", "vzmigrate": "Migrate", "vztemplate": "Convert to template",
	"vzsnapshot": "Snapshot", "vzdelsnapshot": "Delete snapshot", "vzrollback": "Roll back", "vzdump": "Backup", "vncproxy": "Console",
	"resize": "Resize disk", "move_volume": "Move disk", "hastart": "Start (high availability)", "hastop": "Stop (high availability)",
	"hamigrate": "Migrate (high availability)", "qmstart": "Start VM", "qmstop": "Stop VM", "qmshutdown": "Shut down VM", "qmreboot": "Reboot VM",
	"startall": "Start all", "stopall": "Stop all", "aptupdate": "Update package lists", "vncshell": "Shell", "termproxy": "Console",
	"srvstart": "Start service", "srvstop": "Stop service", "srvrestart": "Restart service", "imgcopy": "Copy image", "imgdel": "Delete image",
	"download": "Download",
}

// Label is what a task of a type does, in words; the type itself where there are none for it.
func Label(typ string) string {
	if label, ok := labels[typ]; ok {
		return label
	}
	return typ
}
