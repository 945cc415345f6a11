# A Debian guest on an LVM volume, booted by GRUB as its disk's own grub.cfg says: systemd, a login, a network, apt.
# Then by pygrub, which reads the same grub.cfg in dom0.
# machine: --dom0 full
# long
# limit: 1800
. ./lib
. ./net

# The full dom0 has no links for busybox's programs.
udhcpd() {
    busybox udhcpd "$@"
}

# The volume group lies on the Debian disk behind a megabyte of its own for LVM's label.
disk=$(readlink -f /dev/disk/by-id/virtio-debian-guest)
dd if=/dev/zero of=/run/label bs=1M count=1 2>/dev/null
label=$(losetup -f) && losetup "$label" /run/label || fail "no loop device"
sectors=$(blockdev --getsz "$disk")
printf '0 2048 linear %s 0\n2048 %s linear %s 0\n' "$label" "$sectors" "$disk" | dmsetup create volumes || fail "dmsetup"
{
    pvcreate -q --dataalignment 1m /dev/mapper/volumes && vgcreate -q guests /dev/mapper/volumes &&
        lvcreate -q -y -W n -Z n -l 100%FREE -n debian guests
} >/run/volume 2>&1 || fail "LVM: $(cat /run/volume)"
blkid /dev/guests/debian | grep -q 'LABEL="debian"' || fail "the volume is not the disk: $(blkid)"

# dom0 has a web server with a package.
bridge
mkdir -p /run/www /run/hello/DEBIAN
printf 'Package: hello-guest\nVersion: 1\nArchitecture: all\nMaintainer: dom0 <root@dom0>\nDescription: test\n' >/run/hello/DEBIAN/control
dpkg-deb -b /run/hello /run/www/hello.deb >/run/deb || fail "dpkg-deb: $(cat /run/deb)"
{
    cat /run/hello/DEBIAN/control
    echo 'Filename: ./hello.deb'
    echo "Size: $(stat -c %s /run/www/hello.deb)"
    echo "SHA256: $(sha256sum </run/www/hello.deb | cut -d' ' -f1)"
} >/run/www/Packages
busybox httpd -p $bridge_address:80 -h /run/www || fail "no web server"

log_in() {
    console debian
    heard debian 'debian login:' 600
    say root
    heard debian 'root@debian' 120
}

create /root/guests/debian.cfg "disk = [ 'phy:/dev/guests/debian,xvda,w' ]" "vif = [ 'bridge=xenbr0' ]"
log_in
say 'echo "state: $(systemctl is-system-running --wait)"'
heard debian 'state: [a-z]' 300
# Its own DHCP client has got it an address.
say "until ip route get $bridge_address | grep -q enX0; do sleep 1; done; echo 'deb [trusted=yes] http://$bridge_address ./' >/etc/apt/sources.list; echo address-\$?"
heard debian address-0 120
say 'apt-get update && apt-get install -y hello-guest && dpkg -l hello-guest | grep ^ii && echo installed-$?'
heard debian installed-0 240
say poweroff
within 120 gone debian || fail "debian does not power off: $(tail /run/console-debian)"

create /root/guests/debian.cfg "disk = [ 'phy:/dev/guests/debian,xvda,w' ]" "kernel = ''" "bootloader = 'pygrub'"
log_in
say 'dpkg -l hello-guest | grep ^ii && echo kept-$?'
heard debian kept-0
xl shutdown -w debian >/run/shutdown 2>&1 || fail "xl shutdown: $(cat /run/shutdown)"
