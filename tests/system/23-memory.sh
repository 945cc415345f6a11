# xl mem-set takes memory from a running guest and gives it back; what the hypervisor has free follows.
# limit: 450
. ./lib

memory_is() {
    [ "$(xl list pv | awk 'NR == 2 { print $3 }')" = "$1" ]
}
free_is_near() {
    now=$(info free_memory)
    [ "$now" -ge $(($1 - 2)) ] && [ "$now" -le $(($1 + 2)) ]
}

create /root/guests/pv.cfg memory=256
guest_shell pv
memory_is 256 || fail "memory after the start: $(xl list pv)"
free=$(info free_memory)

xl mem-set pv 192 || fail "xl mem-set 192"
within 60 memory_is 192 || fail "memory after xl mem-set 192: $(xl list pv)"
within 30 free_is_near $((free + 64)) || fail "free memory: $free before, $(info free_memory) with 64 MiB less in the guest"
say 'echo "total $(grep MemTotal /proc/meminfo)"'
heard pv 'total MemTotal'

xl mem-set pv 256 || fail "xl mem-set 256"
within 60 memory_is 256 || fail "memory after xl mem-set 256: $(xl list pv)"
within 30 free_is_near "$free" || fail "free memory: $free before, $(info free_memory) afterwards"
xl destroy pv || fail "xl destroy"
