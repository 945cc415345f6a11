# A PVH guest with Debian's kernel: boots, answers on its console, its time goes up, ends by xl shutdown.
# limit: 500
. ./lib

info virt_caps | grep -q hvm || skip "the CPU has no nested paging"
create /root/guests/pvh.cfg
guest_shell pvh
heard pvh "guest up: $(uname -r) PVH 2 cpus"
say 'echo answer-$((6 * 7))'
heard pvh answer-42 60
say 'cat /sys/hypervisor/guest_type'
heard pvh PVH 60
equal "vCPUs in xl list" "$(xl list pvh | awk 'NR == 2 { print $4 }')" 2
equal "memory in xl list" "$(xl list pvh | awk 'NR == 2 { print $3 }')" 256

before=$(cpu_time pvh)
say 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo counted-$i'
heard pvh counted-20000 120
after=$(cpu_time pvh)
[ "$after" -gt "$before" ] || fail "time in xl list: $before before, $after after work"

xl shutdown -w pvh >/run/shutdown.log 2>&1 || fail "xl shutdown: $(cat /run/shutdown.log)"
within 60 gone pvh || fail "pvh is still there: $(xl list)"
