# Network of PV guests through xen-netback, on a bridge that Debian's hotplug script puts it on: an address by DHCP, streams
# by TCP both ways with their checksums, two guests with each other, a card attached to and detached from a running guest.
# limit: 600
. ./lib
. ./net

bridge
tools
for name in one two; do
    create /root/guests/pv.cfg "name = '$name'" "vif = [ 'bridge=xenbr0' ]" "disk = [ '/run/tools.img,raw,xvda,ro' ]"
done
one=$(networked one)
two=$(networked two)
[ "$one" != "$two" ] || fail "both guests have the address $one"

# Between dom0 and the guest, both ways.
talk one
say "/mnt/exercise receive 7001"
heard one 'listening on 7001'
./exercise send "$one:7001" --mib 64 >/run/sent 2>&1 || fail "dom0 to guest: $(cat /run/sent)"
heard one "received $(sed 's/^sent //' /run/sent) from 192.168.7.1" 10
./exercise receive 7002 >/run/received 2>&1 &
within 10 grep -q listening /run/received || fail "dom0 does not listen: $(cat /run/received)"
say "/mnt/exercise send 192.168.7.1:7002 --mib 64; echo sent-\$?"
heard one sent-0 200
within 10 grep -q "^received 67108864 bytes, .* from $one" /run/received || fail "guest to dom0: $(cat /run/received)"

# Between the guests.
say "/mnt/exercise receive 7003"
heard one 'listening on 7003'
talk two
say "/mnt/exercise send $one:7003 --mib 32; echo two-sent-\$?"
heard two two-sent-0 200
heard one "received 33554432 bytes, .* from $two" 10

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
