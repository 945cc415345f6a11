#!/bin/sh
# Prints what the toolstack says and does, without what may differ between two runs of one hypervisor,
# and without guest types that one of the two does not have: Debian's Xen is built without 32-bit PV guests, Xenolith has no
# HVM guests yet.

title() {
    echo "== $*"
}

# Runs a command; prints its exit status and what it says, numbers of domains and times aside.
try() {
    title "$*"
    "$@" >/run/said 2>&1
    echo "status $?"
    sed -E 's/^(libxl|xl|xc)[^ ]*: ?(error|notice|warning)?:? ?[a-z_]+\.c:[0-9]+:/\1:/; s/[Dd]omain [0-9]+/Domain N/g' /run/said
}

wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 400 ] || { echo "never: $*"; return; }
        sleep 0.3
    done
}

# Its name goes before its memory.
absent() {
    ! xl domid "$1" && [ "$(xl list | wc -l)" = 2 ]
}

title figures
xl info | grep -E '^(release|machine|nr_cpus|max_cpu_id|nr_nodes|cores_per_socket|threads_per_core|total_memory|sharing|xen_major|xen_minor|xen_scheduler|xen_pagesize|xen_caps|virt_caps|platform_params|free_cpus|outstanding)' |
    sed -E 's/^(total_memory .*)[0-9]{2}$/\1NN/; s/0x[0-9a-f]+/HEX/; s/ (hvm[^ ]*|hap|xen-3.0-x86_32p)//g'
title dom0
xl list | awk '{ print $1, $2, $3, $4 }'
xl vcpu-list | awk 'NR > 1 { print $1, $2, $3 }'
grep -m1 ^flags /proc/cpuinfo
try xl cpupool-list
try xl sched-credit2 -d 0

title refused
try xl destroy 99
try xl pause nobody
try xl create /root/no-such.cfg
try xl create /root/guests/tiny.cfg 'memory=100000000'
# A little more than is free, which xl claims before it begins.
xl create /root/guests/tiny.cfg "memory=$(($(xl info | sed -n 's/^free_memory *: //p') + 64))" >/run/said 2>&1
echo "status $?"
grep -c 'failed to build' /run/said
title claims
xl claims | awk '{ print $1, $2, $3, $4, $NF }'
try xl mem-set 99 64

title tiny
try xl create -q /root/guests/tiny.cfg
xl list | awk '{ print $1, $3, $4 }'
try xl pause tiny
xl list tiny | awk 'NR == 2 { print $5 }'
try xl unpause tiny
try xl rename tiny other
try xl create -q /root/guests/tiny.cfg 'name="other"'
try xl mem-max other 32
try xl sched-credit2 -d other -w 512
try xl sched-credit2 -d other
try xl destroy other
wait_for absent other

title guest
try xl create -q /root/guests/pv.cfg
id=$(xl domid pv)
mkfifo /run/in
script -qfc 'xl console pv' /dev/null </run/in >/run/console 2>&1 &
exec 8>/run/in
wait_for grep -q '~ #' /run/console
grep -o 'guest up.*' /run/console | tr -d '\r'
echo 'cat /sys/hypervisor/type /sys/hypervisor/guest_type; grep -c ^processor /proc/cpuinfo; cat /proc/cpuinfo | grep -m1 ^flags; cat /sys/devices/system/clocksource/clocksource0/current_clocksource; ls /sys/bus/xen/devices; echo the-end' >&8
wait_for grep -q '^the-end' /run/console
sed -n '/guest up/,$p' /run/console | tr -d '\r' | grep -v -e '#' -e '^\['
title store
xenstore-ls -p "/local/domain/$id" |
    sed -E "s/\\b$id\\b/ID/g; s/\\bn$id\\b/nID/g; s/\\br$id\\b/rID/g; s/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UUID/; s/ \\. [. ]*/ /; /(port|ring-ref|start-time|tty|rtc|image|event-channel) = /s/ = .*/ = N/"
try xl shutdown -w pv
wait_for absent pv
title end
xl list | awk '{ print $1, $3, $4 }'
