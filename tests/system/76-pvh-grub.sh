# A PVH guest that GRUB boots from its disk, as the disk's own grub.cfg says: 32-bit code that makes hypercalls, without page tables.
# limit: 600
. ./lib

nested_paging
mkdir -p /run/disk/boot/grub
cp /root/guests/vmlinuz /root/guests/initrd /run/disk/boot/
cat >/run/disk/boot/grub/grub.cfg <<END
set timeout=0
menuentry 'Debian GNU/Linux' {
    linux /boot/vmlinuz console=hvc0 from=grub
    initrd /boot/initrd
}
END
mke2fs -q -t ext4 -d /run/disk /run/disk.img 96M || fail "mke2fs"

create /root/guests/pvh.cfg 'name="grub"' 'kernel="/root/guests/grub-pvh"' 'ramdisk=""' 'extra=""' \
    "disk = [ 'format=raw, vdev=xvda, access=ro, target=/run/disk.img' ]"
guest_shell grub
heard grub "guest up: $(uname -r) PVH 2 cpus"
said=$(ask grub "grep -o 'from=grub' /proc/cmdline")
equal "command line" "$said" "from=grub"
xl shutdown -w grub >/run/shutdown.log 2>&1 || fail "xl shutdown: $(cat /run/shutdown.log)"
within 60 gone grub || fail "grub is still there: $(xl list)"
