# A PV guest with Debian's kernel: boots on two vCPUs, answers on its console, its time goes up, ends by xl shutdown.
# limit: 500
. ./lib

create /root/guests/pv.cfg
guest_shell pv
heard pv "guest up: $(uname -r) PV 2 cpus"
say 'echo answer-$((6 * 7))'
heard pv answer-42 60
equal "vCPUs in xl list" "$(xl list pv | awk 'NR == 2 { print $4 }')" 2
equal "memory in xl list" "$(xl list pv | awk 'NR == 2 { print $3 }')" 256

before=$(cpu_time pv)
say 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo counted-$i'
heard pv counted-20000 120
after=$(cpu_time pv)
[ "$after" -gt "$before" ] || fail "time in xl list: $before before, $after after work"

xl shutdown -w pv >/run/shutdown.log 2>&1 || fail "xl shutdown: $(cat /run/shutdown.log)"
within 60 gone pv || fail "pv is still there: $(xl list)"
