#!/bin/sh
# machine: --icount
# What it costs to make guests of 256 MiB and to take them away, in hundredths of a second of a machine whose clock
# counts instructions.

now() {
    cut -d ' ' -f 1 /proc/uptime | tr -d .
}
create() {
    xl create -p -q /root/guests/pv.cfg "name=\"$1\"" memory=256 >/run/said 2>&1 || cat /run/said
}

create first
xl destroy first
start=$(now)
for guest in a b c d; do
    create $guest
done
made=$(now)
for guest in a b c d; do
    xl destroy $guest
done
gone=$(now)
xl list | wc -l
echo "cost creation $((made - start))"
echo "cost destruction $((gone - made))"
