# A Debian guest as an HVM guest: GRUB in front of a disk with a partition table starts it as the disk's own grub.cfg says; systemd,
# a login on the emulated serial port and one on the screen.
# machine: --dom0 full
# long
# limit: 1800
guest=hvm
. ./lib

nested_paging
# Its file system is for a PV guest: what names its disk and console is changed. Its messages would be minutes of exits to QEMU.
debian=$(readlink -f /dev/disk/by-id/virtio-debian-guest)
mount "$debian" /mnt || fail "the disk cannot be mounted"
sed -i 's/vmlinux/vmlinuz/; s|root=/dev/xvda ro console=hvc0|root=LABEL=debian ro quiet console=tty0 console=ttyS0,115200|' /mnt/boot/grub/grub.cfg
sed -i 's|^/dev/xvda |LABEL=debian |' /mnt/etc/fstab
umount /mnt

# Before it come GRUB and a table of partitions, from the small HVM guest's disk; the length of the one partition is 4 bytes at 458.
dd if=/dev/disk/by-id/virtio-hvm-guest of=/run/grub bs=1M count=1 2>/dev/null
sectors=$(blockdev --getsz "$debian")
for shift in 0 8 16 24; do
    printf '%b' "$(printf '\\%03o' $((sectors >> shift & 255)))"
done | dd of=/run/grub bs=1 seek=458 conv=notrunc 2>/dev/null
grub=$(losetup -f) && losetup "$grub" /run/grub || fail "no loop device"
printf '0 2048 linear %s 0\n2048 %s linear %s 0\n' "$grub" "$sectors" "$debian" | dmsetup create debian || fail "dmsetup"

create /root/guests/hvm.cfg "name = 'debian'" "memory = 512" "disk = [ 'format=raw, vdev=hda, access=rw, target=/dev/mapper/debian' ]"
console debian
heard debian 'debian login:' 900
say root
heard debian 'root@debian' 120
say 'echo "state: $(systemctl is-system-running --wait) $(cat /sys/hypervisor/guest_type) $(findmnt -no SOURCE /)"'
heard debian 'state: [a-z]* HVM /dev/xvda1' 300

at=127.0.0.1:$(xenstore-read "/local/domain/$(xl domid debian)/console/vnc-port") || fail "no VNC"
shows() {
    ./exercise screen "$at" --font /usr/share/seabios/vgabios-cirrus.bin >/run/screen 2>&1 && grep -q 'debian login:' /run/screen
}
within 60 shows || fail "no login on the screen: $(cat /run/screen)"
xl shutdown -w debian >/run/shutdown 2>&1 || fail "xl shutdown: $(cat /run/shutdown)"
within 120 gone debian || fail "debian does not power off: $(tail /run/console-debian)"
