# An HVM guest that is shown Hyper-V: its firmware finds Xen behind that, and tools read the records of it.
# limit: 300
# long
. ./lib

nested_paging
create /root/guests/hvm.cfg viridian=1 vcpus=2
id=$(xl domid hvm)
xen-hvmctx "$id" >/run/records || fail "xen-hvmctx: $(tail -n 3 /run/records)"
equal "records of the domain" "$(grep -c 'VIRIDIAN_DOMAIN: hypercall gpa' /run/records)" 1
equal "records of vCPUs" "$(grep -c 'VIRIDIAN_VCPU: vp_assist_msr' /run/records)" 2
firmware_found_xen() {
    xl dmesg | grep -q "(d$id) Detected Xen"
}
within 60 firmware_found_xen || fail "hvmloader does not find Xen: $(xl dmesg | tail -n 5)"
xl destroy hvm || fail "xl destroy"
