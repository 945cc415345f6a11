# xl reboot brings the guest up again as a new domain; `once` on its command line powers it off.
# limit: 240
. ./lib

create /root/guests/pv.cfg
first=$(xl domid pv)
console pv
heard pv 'guest up' 120
xl reboot pv || fail "xl reboot"
rebooted() {
    exists pv && [ "$(xl domid pv)" != "$first" ]
}
within 60 rebooted || fail "no new domain after xl reboot: $(xl list)"
console pv
heard pv 'guest up' 120
xl destroy pv || fail "xl destroy"
within 20 gone pv || fail "pv is still there: $(xl list)"

create /root/guests/pv.cfg 'extra="console=hvc0 once"'
within 120 gone pv || fail "the guest did not power off: $(xl list)"
