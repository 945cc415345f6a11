#!/bin/sh
# Prints what the checks and diagnostics of the package xen-utils say, without what differs between two runs of one
# hypervisor. Not here: what needs trace buffers, machine-check injection or hypfs (SUPPORT.md).
bin=$(/usr/lib/xen-common/bin/xen-dir)/bin

# try NAME ARGUMENTS: runs a program; prints its exit status and what it says, times, addresses and numbers of domains aside.
try() {
    name=$1
    shift
    echo "== $name $*"
    program=$bin/$name
    [ -e "$program" ] || program=/usr/sbin/$name
    timeout 60 "$program" "$@" >/run/said 2>&1 </dev/null
    echo "status $?"
    sed -E "s,$bin/,,g; s/Created d[0-9]+/Created dN/; s/: [0-9]+ ns/: N ns/; s/0x[0-9a-f]{9,}/ADDRESS/g" /run/said
}

try test-cpu-policy
try test-tsx
try test-paging-mempool
try xen-cpuid
try xen-cpuid -d
try xen-cpuid -p
try xen-cpuid -p 0
try test-resource
try test-xenstore
try lsevtchn 99
try xen-diag
try xen-diag gnttab_query_size 0
try xen-diag gnttab_query_size 99
try xen-hptool
try xen-hptool mem-query-offline 99999999
try xen-hptool mem-online 65536
try xen-hptool mem-online 99999999
try xen-hptool cpu-online 1
try xen-hptool cpu-online 77
try xen-hptool cpu-offline 0
try xen-hptool cpu-offline 77
try xen-livepatch list
try xen-livepatch apply none
try xen-livepatch unload none
try xen-mfndump
try xen-mfndump dump-m2p 0 1
try xen-lowmemd -h
try xen-memshare info
try xen-vmtrace 99
try xen-hvmctx 99
try xen-hvmcrash 99
try xen-access 99 write
try xen-ucode
try xen-kdd
try xencov read
try xenlockprof
try xenperf
try xenpm get-cpu-topology
try xenctx 99
try xenwatchdogd -h
