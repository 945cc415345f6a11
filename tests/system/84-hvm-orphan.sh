# The device model of an HVM guest is killed: the guest stands still where it reaches a device, and is destroyed like any other;
# dom0 and another guest go on.
# limit: 900
# long
guest=hvm
. ./lib

nested_paging
create /root/guests/pv.cfg
guest_shell pv
free=$(info free_memory)
create /root/guests/hvm.cfg
id=$(xl domid hvm)
# Its firmware and its boot loader have nothing to do but with devices.
at_work() {
    [ "$(cpu_time hvm)" -gt 10 ]
}
within 60 at_work || fail "the guest does nothing: $(xl list)"
emulator=$(xenstore-read "/local/domain/$id/image/device-model-pid") || fail "the device model has no number"
kill -9 "$emulator" || fail "no device model $emulator"
stands_still() {
    time=$(cpu_time hvm)
    sleep 3
    [ "$(cpu_time hvm)" = "$time" ]
}
within 30 stands_still || fail "the guest goes on without its device model: $(xl list)"
# Xen lets it be: xl tells nothing of it until someone destroys it.
exists hvm || fail "the guest is gone with its device model: $(xl list)"
talk pv
say 'echo goes-on-$((6 * 7))'
heard pv goes-on-42 60

timeout 120 xl destroy hvm >/run/destroy 2>&1 || fail "xl destroy: $(cat /run/destroy)"
within 60 gone hvm || fail "hvm is still there: $(xl list)"
# All its memory is back; the toolstack counts in MiB.
back() {
    [ "$(info free_memory)" -ge $((free - 1)) ]
}
within 60 back || fail "free memory: $(info free_memory) MiB, before it was $free"
say 'echo still-$((6 * 7))'
heard pv still-42 60
