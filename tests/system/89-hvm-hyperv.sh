# HVM guests that take Hyper-V's enlightenments: a stock kernel without Xen's own drivers reads its time from Hyper-V's reference page,
# or from its register, and runs by them on two vCPUs.
# machine: --more-guests
# limit: 2000
# long
guest=hvm
. ./lib

nested_paging
narrow_guests

# sees NAME CLOCK: the kernel finds Hyper-V, takes this clock and tells both vCPUs' pages; it ends by itself.
sees() {
    heard "$1" 'guest up: 6\.1.*-686 unknown 2 cpus'
    equal "Hyper-V in the kernel's log" "$(ask "$1" "dmesg | grep -c 'Hypervisor detected: Microsoft Hyper-V'")" 1
    equal "clock" "$(ask "$1" 'cat /sys/devices/system/clocksource/clocksource0/current_clocksource')" "$2"
    keeps_time "$1"
    no_complaints "$1"
    xen-hvmctx "$(xl domid "$1")" >/run/records || fail "xen-hvmctx: $(tail -n 3 /run/records)"
    grep 'VIRIDIAN_DOMAIN: hypercall gpa' /run/records | grep -q 'gpa 0x0*[1-9a-f]' || fail "no hypercall page: $(grep VIRIDIAN /run/records)"
    equal "vCPUs with a page" "$(grep -c 'VIRIDIAN_VCPU: vp_assist_msr 0x[0-9a-f]*1,' /run/records)" 2
    say poweroff -f
    within 120 gone "$1" || fail "$1 is still there: $(tail -n 5 "/run/console-$1")"
}

narrow_guest page vmlinuz-686 \
    "viridian = [ 'defaults', 'time_ref_count', 'reference_tsc', 'apic_assist', 'hcall_remote_tlb_flush', 'crash_ctl' ]"
sees page hyperv_clocksource_tsc_page

narrow_guest msr vmlinuz-686 "viridian = [ 'base', 'freq', 'time_ref_count', 'apic_assist' ]"
sees msr hyperv_clocksource_msr
