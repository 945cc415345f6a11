# How a guest ends: NMI and sysrq from outside, its own crash under each on_crash, its watchdog.
# limit: 700
. ./lib

# crashed: the guest is there and has crashed.
crashed() {
    case $(state pv) in ????c?) ;; *) return 1 ;; esac
}
# other ID: pv is a domain of another number than this.
other() {
    now=$(xl domid pv 2>/dev/null) && [ "$now" != "$1" ]
}

create /root/guests/pv.cfg memory=128 'on_crash="restart"' 'on_watchdog="preserve"'
id=$(xl domid pv)
guest_shell pv
say 'dmesg -n 7; echo loud'
heard pv '^loud'
xl sysrq pv h || fail "xl sysrq"
heard pv 'sysrq: HELP' 30
xl trigger pv nmi || fail "xl trigger nmi"
heard pv 'NMI received' 30
xl trigger pv nmi 1 || fail "xl trigger nmi 1"
for trigger in power sleep; do
    xl trigger pv $trigger 2>&1 | grep -q 'Invalid argument' || fail "trigger $trigger is not refused"
done
for trigger in reset init; do
    xl trigger pv $trigger 2>&1 | grep -q 'Function not implemented' || fail "trigger $trigger is not refused"
done
equal "name of domain $id" "$(xl domname "$id")" pv
xl rename pv new || fail "xl rename"
equal "number by the new name" "$(xl domid new)" "$id"
exists pv && fail "the old name is still there"
xl rename new pv || fail "xl rename back"
xenstore-ls "/local/domain/$id" | grep -q '^name = "pv"' || fail "name in the store: $(xenstore-ls "/local/domain/$id")"
xentop -b -i 1 | grep -q '^ *pv ' || fail "xentop -b: $(xentop -b -i 1)"

say 'echo c >/proc/sysrq-trigger'
within 60 other "$id" || fail "no restart after the crash: $(xl list)"
guest_shell pv

# A watchdog that is not fed any more ends the guest, as on_watchdog says.
say 'watchdog -T 3 -t 1 /dev/watchdog; sleep 5; echo fed'
heard pv '^fed' 30
say 'kill -9 $(pidof watchdog)'
shut_down() {
    case $(state pv) in ???s??) ;; *) return 1 ;; esac
}
within 60 shut_down || fail "the watchdog does not end the guest: $(xl list; tail -n 3 /run/console-pv)"
xl dmesg | grep -q 'Watchdog timer' || fail "no word of the watchdog in xl dmesg"
xl destroy pv || fail "xl destroy"

# A kernel that finds no root file system panics by itself.
create /root/guests/pv.cfg 'ramdisk=""' memory=80 vcpus=1 'on_crash="preserve"'
within 200 crashed || fail "state after the panic: $(state pv)"
equal "reason of the shutdown" "$(xl list -v pv | awk 'NR == 2 { print $8 }')" 3
xl destroy pv || fail "xl destroy"
create /root/guests/pv.cfg 'ramdisk=""' memory=80 vcpus=1 'on_crash="destroy"'
within 200 gone pv || fail "still there after the panic: $(xl list)"
