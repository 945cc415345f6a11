# An HVM guest sleeps and wakes (ACPI S3), restarts by its own firmware's means and by xl, and turns itself off when its power
# button is pressed.
# limit: 1500
# long
guest=hvm
. ./lib

nested_paging
create /root/guests/hvm.cfg
guest_shell hvm

# Asleep it gets no time: it neither runs nor waits (only what the toolstack has paused is listed as paused); it wakes with its
# memory, its clocks and all its vCPUs.
say 'kept=$((6 * 7)); echo mem >/sys/power/state; echo resumed-$?'
asleep() {
    time=$(cpu_time hvm)
    sleep 3
    [ "$(state hvm) $(cpu_time hvm)" = "------ $time" ]
}
within 60 asleep || fail "the guest does not sleep: $(xl list)"
time=$(cpu_time hvm)
sleep 3
equal "time of a sleeping guest" "$(cpu_time hvm)" "$time"
xl trigger hvm s3resume || fail "xl trigger s3resume"
heard hvm resumed-0 120
say 'sleep 1; echo kept-$kept on $(nproc)'
heard hvm 'kept-42 on 2' 60

# another COMMAND: the command ends in a new domain of this name, which is up; it is talked to from then on.
another() {
    first=$(xl domid hvm)
    $1
    rebooted() {
        now=$(xl domid hvm 2>/dev/null) && [ "$now" != "$first" ]
    }
    within 120 rebooted || fail "no new domain after $1: $(xl list)"
    guest_shell hvm
}
another 'say reboot -f'
another 'xl reboot hvm'

# As acpid has it, which a guest's own system would bring.
say 'for m in /modules/more/*button* /modules/more/*evdev*; do insmod $m; done; mkdir -p /etc/acpi/PWRF /var/log /var/run'
say 'printf "#!/bin/sh\necho button-\$((1 + 1)) >/dev/ttyS0\npoweroff -f\n" >/etc/acpi/PWRF/00000080; chmod +x /etc/acpi/PWRF/00000080'
say 'acpid; echo listens-$?'
heard hvm listens-0 60
xl trigger hvm power || fail "xl trigger power"
within 120 gone hvm || fail "the guest does not heed its power button: $(tail -n 5 /run/console-hvm)"
grep -q button-2 /run/console-hvm || fail "the guest is gone, but not by its power button: $(tail -n 5 /run/console-hvm)"
