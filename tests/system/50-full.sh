# Debian with systemd is dom0: its services run, its disk and network work, a guest boots.
# machine: --dom0 full
# limit: 900
. ./lib

equal "root file system" "$(findmnt -no SOURCE /)" /dev/vda
systemctl is-active xen.service >/run/active || fail "xen.service is $(cat /run/active)"
pidof oxenstored >/dev/null || fail "oxenstored does not run"
dpkg -l xen-utils-4.20 | grep -q ^ii || fail "dpkg does not know xen-utils-4.20"
within 60 ip -4 route get 10.0.2.2 >/dev/null 2>&1 || fail "no address by DHCP: $(ip addr)"
ping -c 2 -W 5 10.0.2.2 >/run/ping || fail "no answer from the gateway: $(cat /run/ping)"
create /root/guests/pv.cfg
console pv
heard pv 'guest up' 300
xl destroy pv || fail "xl destroy"
