# Virtual interrupts: the hypervisor's log (global), a guest's report on itself (one for each vCPU), and a domain's end.
# limit: 300
. ./lib

# The console daemon again, which now follows the hypervisor's log.
bin=$(/usr/lib/xen-common/bin/xen-dir)/bin
mkdir -p /var/log/xen/console
kill "$(cat /run/xenconsoled.pid)"
stopped() {
    [ ! -e "/proc/$(cat /run/xenconsoled.pid)" ]
}
within 20 stopped || fail "xenconsoled does not stop"
"$bin/xenconsoled" --log=hv --log-dir=/var/log/xen/console --pid-file /run/xenconsoled.pid || fail "xenconsoled"
log=/var/log/xen/console/hypervisor.log
within 20 [ -s $log ] || fail "no log of the hypervisor"
before=$(wc -c <$log)
xl debug-keys h || fail "xl debug-keys"
grown() {
    tail -c "+$((before + 1))" $log | grep -q 'show this'
}
within 20 grown || fail "the log does not follow: $(tail -n 3 $log)"

create /root/guests/pv.cfg 'extra="console=hvc0 xen.fifo_events=0"'
guest_shell pv
xl debug-keys q || fail "xl debug-keys q"
heard pv 'vcpu 0' 30
heard pv 'vcpu 1' 30
once() {
    [ "$(ask pv "awk '/debug[01]\$/ { print \$2 + \$3 }' /proc/interrupts")" = "1 1" ]
}
within 60 once || fail "not one debug interrupt for each vCPU: $(ask pv 'grep debug /proc/interrupts')"

# The toolstack waits for the end of a domain by a global one.
xl shutdown -w pv >/run/shutdown.log 2>&1 || fail "xl shutdown: $(cat /run/shutdown.log)"
