# xl reboot brings the guest up again as a new domain; `once` on its command line powers it off.
# limit: 900
. ./lib

create /root/guests/pv.cfg
first=$(xl domid pv)
console pv
heard pv 'guest up' 300
xl reboot pv || fail "xl reboot"
rebooted() {
    now=$(xl domid pv 2>/dev/null) && [ "$now" != "$first" ]
}
within 120 rebooted || fail "no new domain after xl reboot: $(xl list)"
console pv
heard pv 'guest up' 300
xl destroy pv || fail "xl destroy"
within 60 gone pv || fail "pv is still there: $(xl list)"

create /root/guests/pv.cfg 'extra="console=hvc0 once"'
within 300 gone pv || fail "the guest did not power off: $(xl list)"
