#!/bin/sh
# machine: --icount
# What it costs to make guests of 256 MiB and to take them away, in hundredths of a second of a machine whose clock
# counts instructions. The least of some rounds counts: what else dom0 does meanwhile is a percent of one.

now() {
    cut -d ' ' -f 1 /proc/uptime | tr -d .
}
create() {
    xl create -p -q /root/guests/pv.cfg "name=\"$1\"" memory=256 >/run/said 2>&1 || cat /run/said
}
# least A B: the smaller number.
least() {
    [ "$1" -lt "$2" ] && echo "$1" || echo "$2"
}

create first
xl destroy first
creation=99999
destruction=99999
for round in 1 2 3; do
    start=$(now)
    for guest in a b c d; do
        create $guest
    done
    made=$(now)
    for guest in a b c d; do
        xl destroy $guest
    done
    gone=$(now)
    creation=$(least $((made - start)) $creation)
    destruction=$(least $((gone - made)) $destruction)
done
xl list | wc -l
echo "cost creation $creation"
echo "cost destruction $destruction"
