# xl mem-set takes memory from a running guest and gives it back; what the hypervisor has free follows.
# limit: 450
. ./lib

memory_is() {
    [ "$(xl list $guest | awk 'NR == 2 { print $3 }')" = "$1" ]
}
free_is_near() {
    now=$(info free_memory)
    [ "$now" -ge $(($1 - 2)) ] && [ "$now" -le $(($1 + 2)) ]
}

create "/root/guests/$guest.cfg" memory=256
guest_shell $guest
memory_is 256 || fail "memory after the start: $(xl list $guest)"
free=$(info free_memory)

xl mem-set $guest 192 || fail "xl mem-set 192"
within 60 memory_is 192 || fail "memory after xl mem-set 192: $(xl list $guest)"
within 30 free_is_near $((free + 64)) || fail "free memory: $free before, $(info free_memory) with 64 MiB less in the guest"
say 'echo "total $(grep MemTotal /proc/meminfo)"'
heard $guest 'total MemTotal'

xl mem-set $guest 256 || fail "xl mem-set 256"
within 60 memory_is 256 || fail "memory after xl mem-set 256: $(xl list $guest)"
within 30 free_is_near "$free" || fail "free memory: $free before, $(info free_memory) afterwards"
xl destroy $guest || fail "xl destroy"
within 60 gone $guest || fail "$guest is still there: $(xl list)"

# Begun with less than it may have: it does not miss what it has not got, and takes it when it is offered.
create "/root/guests/$guest.cfg" memory=160 maxmem=320
guest_shell $guest
memory_is 160 || fail "memory after the start with less: $(xl list $guest)"
say 'dd if=/dev/urandom of=/tmp/full bs=1M count=40 2>/dev/null && sha256sum /tmp/full >/tmp/sum && sha256sum -c /tmp/sum && echo filled-$?'
heard $guest filled-0 120
xl mem-set $guest 320 || fail "xl mem-set 320"
within 60 memory_is 320 || fail "memory after xl mem-set 320: $(xl list $guest)"
say 'mount -t tmpfs -o size=200m none /mnt && dd if=/dev/urandom of=/mnt/more bs=1M count=120 2>/dev/null && sha256sum -c /tmp/sum && echo more-$?'
heard $guest more-0 120
xl destroy $guest || fail "xl destroy"
