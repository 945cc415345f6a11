#!/bin/sh
# Prints what the tools for power, processors and the hypervisor's log say, without times.

try() {
    echo "== $*"
    "$@" >/run/said 2>&1
    echo "status $?"
    grep -v 'Elapsed time' /run/said
}

modprobe xen-acpi-processor 2>/dev/null
echo "xen-acpi-processor: $?"
try xenpm get-cpuidle-states
try xenpm get-cpuidle-states 7
try xenpm get-cpufreq-para
try xenpm get-cpufreq-states
try xenpm get-cpufreq-average
try xenpm get-cpu-topology
try xenpm set-scaling-governor performance
try xenpm set-scaling-maxfreq 0 1000
try xenpm set-up-threshold 0 50
try xenpm set-sched-smt enable
try xenpm set-sched-smt disable
try xenpm set-max-cstate 1
try xenpm get-cpuidle-states 0
try xenpm set-max-cstate unlimited
try xenpm enable-turbo-mode
try xenpm disable-turbo-mode 1
try xenpm start 1
try xen-ucode show-cpu-info

# Microcode: nothing, no such thing, nothing for this processor, damaged files.
file() {
    printf "$1" >/run/microcode
    try xen-ucode /run/microcode
}
head -c 4096 /dev/zero >/run/microcode
try xen-ucode /run/microcode
magic='DMA\0'
none='\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
file "$magic"'\0\0\0\0\20\0\0\0'"$none"
file "$magic"'\0\0\0\0\40\0\0\0'"$none"
file "$magic"'\0\0\0\0\17\0\0\0'"$none"
file "$magic"'\1\0\0\0\20\0\0\0'"$none"
file "$magic"'\0\0\0\0\20\0\0\0'"$none"'\1\0\0\0\20\0\0\0'"$none"
file "$magic"'\0\0\0\0\20\0\0\0'"$none$magic"'\0\0\0\0\20\0\0\0'"$none"

try xen-diag gnttab_query_size 0
try xen-diag gnttab_query_size 77
try xen-hptool smt-enable
try xen-hvmcrash 0
try xl trigger 0 power
try xl debug-keys '?'
[ "$(xl dmesg | wc -l)" -gt 0 ] || echo "nothing in xl dmesg"
xl dmesg -c >/dev/null
echo "after xl dmesg -c: $(xl dmesg | wc -l)"
