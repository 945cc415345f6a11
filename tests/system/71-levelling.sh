# What `cpuid` in its configuration takes away, a guest's kernel does not find: PV and PVH. The rest stays.
# A PVH guest that wants speculative stores held back uses what its CPU says for that (MSR 0xc001011f).
# limit: 600
. ./lib

# counted NAME FLAG: vCPUs of the guest that have a flag.
counted() {
    ask "$1" "grep -cw $2 /proc/cpuinfo"
}

# levelled NAME: the guest of /root/guests/NAME.cfg, with less than the host has.
levelled() {
    create "/root/guests/$1.cfg" 'cpuid="host,avx2=0,bmi2=0"' 'extra="console=hvc0 spec_store_bypass_disable=on"'
    guest_shell "$1"
    for flag in avx2 bmi2; do
        equal "$1: vCPUs with $flag" "$(counted "$1" $flag)" 0
    done
    for flag in avx bmi1; do
        equal "$1: vCPUs with $flag" "$(counted "$1" $flag)" 2
    done
}

for flag in avx avx2 bmi1 bmi2; do
    grep -qw $flag /proc/cpuinfo || skip "the CPU has no $flag"
done
levelled pv
xl destroy pv || fail "xl destroy"

info virt_caps | grep -q hvm || exit 0
levelled pvh
if "$(/usr/lib/xen-common/bin/xen-dir)/bin/xen-cpuid" -d | sed -n '/^HVM Default/,/^PV Max/p' | grep -q virt-ssbd; then
    equal "vCPUs with virt_ssbd" "$(counted pvh virt_ssbd)" 2
    said=$(ask pvh "cat /sys/devices/system/cpu/vulnerabilities/spec_store_bypass")
    equal "speculative stores" "$said" "Mitigation: Speculative Store Bypass disabled"
    equal "MSRs that fault" "$(ask pvh "dmesg | grep -c 'unchecked MSR'")" 0
fi
