package sim

import "strconv"

// forgetGuestAccess drops the ACL entries on a guest's path, as PVE::AccessControl::remove_vm_access does when it is
// destroyed, so that the next guest with its VMID doesn't inherit them.
func (d *Datacenter) forgetGuestAccess(vmid int) {
	if vms := d.access.acl.children["vms"]; vms != nil {
		delete(vms.children, strconv.Itoa(vmid))
		d.access.forget()
	}
}
