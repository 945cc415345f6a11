# xl pause stops a guest, xl unpause lets it go on.
# limit: 450
. ./lib

create /root/guests/pv.cfg
guest_shell pv
xl pause pv || fail "xl pause"
case $(state pv) in *p*) ;; *) fail "state after pause: $(state pv)" ;; esac
time=$(cpu_time pv)
say 'echo awake-$((1 + 1))'
sleep 3
! grep -q awake-2 /run/console-pv || fail "a paused guest answers"
equal "time of a paused guest" "$(cpu_time pv)" "$time"
xl unpause pv || fail "xl unpause"
heard pv awake-2 60
xl destroy pv || fail "xl destroy"
within 60 gone pv || fail "pv is still there: $(xl list)"
