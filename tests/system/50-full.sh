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

# apt, from a repository on the disk, so that no mirror is needed.
mkdir -p /root/repository /root/hello/DEBIAN
printf 'Package: hello-dom0\nVersion: 1\nArchitecture: all\nMaintainer: dom0 <root@dom0>\nDescription: test\n' >/root/hello/DEBIAN/control
dpkg-deb -b /root/hello /root/repository/hello.deb >/run/deb || fail "dpkg-deb: $(cat /run/deb)"
{
    cat /root/hello/DEBIAN/control
    echo 'Filename: ./hello.deb'
    echo "Size: $(stat -c %s /root/repository/hello.deb)"
    echo "SHA256: $(sha256sum </root/repository/hello.deb | cut -d' ' -f1)"
} >/root/repository/Packages
echo 'deb [trusted=yes] file:/root/repository ./' >/etc/apt/sources.list
apt-get update >/run/apt 2>&1 && apt-get install -y hello-dom0 >>/run/apt 2>&1 || fail "apt: $(tail -n 10 /run/apt)"
dpkg -l hello-dom0 | grep -q ^ii || fail "the package is not there"

create /root/guests/pv.cfg
console pv
heard pv 'guest up' 300
xl destroy pv || fail "xl destroy"
