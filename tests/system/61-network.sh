# Network of PV guests through xen-netback, on a bridge that Debian's hotplug script puts it on: an address by DHCP, streams
# by TCP both ways with their checksums, two guests with each other, a card attached to and detached from a running guest.
# limit: 600
. ./lib
. ./net

bridge
tools
for name in one two; do
    create "/root/guests/$guest.cfg" "name = '$name'" "vif = [ 'bridge=xenbr0' ]" "disk = [ $(boot_disk $name)$(tools_disk $name) ]"
done
one=$(networked one) || fail "$one"
two=$(networked two) || fail "$two"
[ "$one" != "$two" ] || fail "both guests have the address $one"

to_guest one "$one" 7001 32
from_guest one "$one" 7002 32

# Between the guests.
talk one
say "/mnt/exercise receive 7003"
heard one 'listening on 7003'
talk two
say "/mnt/exercise send $one:7003 --mib 16; echo two-sent-\$?"
heard two two-sent-0 200
heard one "received 16777216 bytes, .* from $two" 10

xl network-attach two bridge=xenbr0 >/run/attach 2>&1 || fail "network-attach: $(cat /run/attach)"
say 'until [ -e /sys/class/net/eth1 ]; do sleep 0.2; done; ip link set eth0 down; udhcpc -q -t 20 -i eth1 && ping -c 3 192.168.7.1 && echo attached-$?'
heard two attached-0 120
equal "cards in xl network-list" "$(xl network-list two | awk 'NR > 1 { print $1, $5 }')" "0 4
1 4"
xl network-detach two 1 >/run/detach 2>&1 || fail "network-detach: $(cat /run/detach)"
say 'while [ -e /sys/class/net/eth1 ]; do sleep 0.2; done; echo detached-$((1 + 1))'
heard two detached-2 60

for name in one two; do
    xl destroy $name || fail "xl destroy $name"
    within 60 gone $name || fail "$name is still there: $(xl list)"
done
within 30 sh -c '! ls /sys/class/net | grep vif' || fail "interfaces are left: $(ls /sys/class/net)"
