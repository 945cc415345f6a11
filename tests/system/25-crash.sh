# How a guest ends: NMI and sysrq from outside, its own crash under each on_crash, its watchdog.
# limit: 700
. ./lib

# crashed: the guest is there and has crashed.
crashed() {
    case $(state $guest) in ????c?) ;; *) return 1 ;; esac
}
# other ID: pv is a domain of another number than this.
other() {
    now=$(xl domid $guest 2>/dev/null) && [ "$now" != "$1" ]
}

create "/root/guests/$guest.cfg" memory=128 'on_crash="restart"' 'on_watchdog="preserve"'
id=$(xl domid $guest)
guest_shell $guest
say 'dmesg -n 7; echo loud'
heard $guest '^loud'
xl sysrq $guest h || fail "xl sysrq"
heard $guest 'sysrq: HELP' 30
xl trigger $guest nmi || fail "xl trigger nmi"
heard $guest 'Dazed and confused' 30
xl trigger $guest nmi 1 || fail "xl trigger nmi 1"
# Whoever has no buttons takes no notice, but for PV guests, of which Xen knows that they have none.
for trigger in power sleep; do
    said=$(xl trigger $guest $trigger 2>&1)
    case $guest:$said in
    pv:*'Invalid argument'* | pvh:) ;;
    *) fail "trigger $trigger: $said" ;;
    esac
done
for trigger in reset init; do
    xl trigger $guest $trigger 2>&1 | grep -q 'Function not implemented' || fail "trigger $trigger is not refused"
done
equal "name of domain $id" "$(xl domname "$id")" $guest
xl rename $guest new || fail "xl rename"
equal "number by the new name" "$(xl domid new)" "$id"
exists $guest && fail "the old name is still there"
xl rename new $guest || fail "xl rename back"
xenstore-ls "/local/domain/$id" | grep -q "^name = \"$guest\"" || fail "name in the store: $(xenstore-ls "/local/domain/$id")"
xentop -b -i 1 | grep -q "^ *$guest " || fail "xentop -b: $(xentop -b -i 1)"

say 'echo c >/proc/sysrq-trigger'
within 60 other "$id" || fail "no restart after the crash: $(xl list)"
guest_shell $guest

# A watchdog that is not fed any more ends the guest, as on_watchdog says.
say 'watchdog -T 3 -t 1 /dev/watchdog; sleep 5; echo fed'
heard $guest '^fed' 30
say 'kill -9 $(pidof watchdog)'
shut_down() {
    case $(state $guest) in ???s??) ;; *) return 1 ;; esac
}
within 60 shut_down || fail "the watchdog does not end the guest: $(xl list; tail -n 3 /run/console-$guest)"
xl dmesg | grep -q 'Watchdog timer' || fail "no word of the watchdog in xl dmesg"
xl destroy $guest || fail "xl destroy"

# A kernel that finds no root file system panics by itself.
create "/root/guests/$guest.cfg" 'ramdisk=""' memory=80 vcpus=1 'on_crash="preserve"'
within 200 crashed || fail "state after the panic: $(state $guest)"
equal "reason of the shutdown" "$(xl list -v $guest | awk 'NR == 2 { print $8 }')" 3
xl destroy $guest || fail "xl destroy"
create "/root/guests/$guest.cfg" 'ramdisk=""' memory=80 vcpus=1 'on_crash="destroy"'
within 200 gone $guest || fail "still there after the panic: $(xl list)"
