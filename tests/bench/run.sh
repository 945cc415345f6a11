#!/bin/sh
# Runs the kernel that counts what operations cost, in dom0, once as each type of guest that the arguments name; prints its lines
# `cost GROUP.NAME COUNT` as `cost TYPE/GROUP.NAME COUNT`. The argument memory measures what memory the hypervisor uses, in KiB;
# vcpus=NUMBER gives the guests that follow so many virtual processors, of which those from the third on wait, and domains=NUMBER creates
# other domains that wait, until there are so many; the figures that follow are TYPE@vcpus-NUMBER/GROUP.NAME, or TYPE@domains-NUMBER/...;
# TYPE/GROUP.NAME has that one operation carried out for long, between the lines on the console that `./x run --profile` looks for.
files=/root/files
logs=/var/log/xen/console
config=/run/bench.cfg

# The console daemon again, now with logs.
bin=$(/usr/lib/xen-common/bin/xen-dir)/bin
mkdir -p $logs
kill "$(cat /run/xenconsoled.pid)"
while [ -e "/proc/$(cat /run/xenconsoled.pid)" ]; do
    sleep 0.1
done
"$bin/xenconsoled" --log=guest --log-dir=$logs --pid-file /run/xenconsoled.pid || exit

# configure NAME TYPE VCPUS RUN: writes the configuration of a guest. As an HVM guest the kernel takes the place of hvmloader, and its
# command line that of the BIOS.
configure() {
    printf %s "run=$4" >/run/line
    case $2 in
    hvm) cat <<END ;;
firmware_override = "$files/bench-guest.firmware"
bios = "seabios"
bios_path_override = "/run/line"
vga = "none"
vnc = 0
END
    *) cat <<END ;;
kernel = "$files/bench-guest"
extra = "run=$4"
END
    esac >$config
    # What a translated guest is told of and has not got is populated when it is touched.
    case $2 in
    pv) echo 'memory = 32' ;;
    *) printf '%s\n' 'memory = 48' 'maxmem = 64' ;;
    esac >>$config
    cat >>$config <<END
name = "$1"
type = "$2"
vcpus = $3
on_poweroff = "preserve"
on_reboot = "preserve"
on_crash = "preserve"
END
}

# make ARGUMENT...: creates a guest.
make() {
    xl create -q -e "$@" >/run/said 2>&1 || { cat /run/said >&2; return 1; }
}

# start TYPE RUN: creates such a guest, $name with the log $log, and before it another one that answers its events.
start() {
    configure "peer-$1" "$1" 1 answer
    make $config || return
    name=bench-$1
    log=$logs/guest-$name.log
    # What another one of this name said is there still.
    rm -f "$log"
    configure "$name" "$1" $vcpus "$2"
    make $config
}

# domains NUMBER: creates domains that wait for ever until there are so many.
domains() {
    configure other pv 1 wait
    while [ $others -lt "$1" ]; do
        others=$((others + 1))
        make $config "name=\"other$others\"" memory=16 || return
    done
}

# count TYPE: runs the kernel as such a guest. Nothing of dom0 runs while it measures.
count() {
    start "$1" all || return
    tries=0
    until grep -qE '^(done|panic|unexpected)' "$log" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] || break
        sleep 2
    done
    tr -d '\r' <"$log" >/run/lines
    xl destroy "$name"
    xl destroy "peer-$1"
    sed -n "s|^cost |cost $1$scale/|p" /run/lines
    grep -q '^done' /run/lines || { echo "the guest of type $1 did not end:" >&2; grep -v '^cost ' /run/lines >&2; return 1; }
}

# said LINE LIMIT: waits until the guest has said so.
said() {
    tries=0
    until grep -q "^$1" "$log" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt "$2" ] || { echo "the guest does not say: $1" >&2; return 1; }
        sleep 0.1
    done
}

# repeat TYPE/GROUP.NAME: carries out one operation for long.
repeat() {
    start "${1%%/*}" "only.${1#*/}" || return
    said begins 50 && echo 'profile: begin' >/dev/console && said ends 1000 && echo 'profile: end' >/dev/console
}

free() {
    xl info | sed -n 's/^free_memory *: //p'
}

# What is neither free nor dom0's, and what a domain that does nothing takes beside its own 32 MiB; xl tells MiB, hence many domains.
memory() {
    whole=$(($(xl info | sed -n 's/^total_memory *: //p')))
    before=$(free)
    dom0=$(xl list 0 | awk 'NR == 2 { print $3 }')
    echo "cost memory/use.total-less-free-and-dom0 $(((whole - before - dom0) * 1024))"
    configure idle "$1" 1 all
    for number in $(seq 8); do
        make -p $config "name=\"idle$number\"" || return
    done
    echo "cost memory/use.idle-$1-domain $(((before - $(free)) * 1024 / 8 - 32 * 1024))"
    for number in $(seq 8); do
        xl destroy "idle$number"
    done
}

others=0
vcpus=2
scale=
status=0
for what in "$@"; do
    case $what in
    vcpus=*) vcpus=${what#*=} scale=@vcpus-$vcpus ;;
    domains=*) vcpus=2 scale=@domains-${what#*=} && domains "${what#*=}" || status=1 ;;
    memory) memory pv || status=1 ;;
    */*) repeat "$what" || status=1 ;;
    *) count "$what" || status=1 ;;
    esac
done
exit $status
