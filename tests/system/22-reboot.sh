# xl reboot brings the guest up again as a new domain; `once` on its command line powers it off.
# limit: 900
. ./lib

create "/root/guests/$guest.cfg"
first=$(xl domid $guest)
console $guest
heard $guest 'guest up' 300
xl reboot $guest || fail "xl reboot"
rebooted() {
    now=$(xl domid $guest 2>/dev/null) && [ "$now" != "$first" ]
}
within 120 rebooted || fail "no new domain after xl reboot: $(xl list)"
console $guest
heard $guest 'guest up' 300
xl destroy $guest || fail "xl destroy"
within 60 gone $guest || fail "$guest is still there: $(xl list)"

create "/root/guests/$guest.cfg" 'extra="console=hvc0 once"'
within 300 gone $guest || fail "the guest did not power off: $(xl list)"
