# xl pause stops a guest, xl unpause lets it go on.
# limit: 450
. ./lib

create "/root/guests/$guest.cfg"
guest_shell $guest
xl pause $guest || fail "xl pause"
case $(state $guest) in *p*) ;; *) fail "state after pause: $(state $guest)" ;; esac
time=$(cpu_time $guest)
say 'echo awake-$((1 + 1))'
sleep 3
! grep -q awake-2 /run/console-$guest || fail "a paused guest answers"
equal "time of a paused guest" "$(cpu_time $guest)" "$time"
xl unpause $guest || fail "xl unpause"
heard $guest awake-2 60
xl destroy $guest || fail "xl destroy"
within 60 gone $guest || fail "$guest is still there: $(xl list)"
