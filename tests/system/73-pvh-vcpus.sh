# PVH guests with 1 and with 16 vCPUs; hotplug, pinning and caps, as for PV guests.
# machine: --smp 3
# limit: 1200
# long
guest=pvh
. ./lib

nested_paging
for number in 1 16; do
    create /root/guests/pvh.cfg vcpus=$number
    console pvh
    heard pvh "guest up: $(uname -r) PVH $number cpus" 300
    xl destroy pvh || fail "xl destroy"
    within 60 gone pvh || fail "pvh is still there: $(xl list)"
done
. ./24-vcpus.sh
