# Disks of a PV guest through xen-blkback: a file and a block device, ext4, random reads and writes that are verified,
# a disk attached to and detached from the running guest.
# limit: 600
. ./lib

tools
for size in 48 16; do
    dd if=/dev/zero of=/run/disk-$size.img bs=1M count=0 seek=$size 2>/dev/null
done
device=$(losetup -f) && losetup "$device" /run/disk-48.img || fail "no loop device"

create "/root/guests/$guest.cfg" "disk = [ $(boot_disk $guest)'format=raw, vdev=xvdb, access=rw, target=/run/tools.img', 'phy:$device,xvdc,w' ]"
guest_shell $guest
load_tools $guest
# Numbers of xvdb and later ones; an HVM guest's boot disk has a lower one.
equal "disks in xl block-list" "$(xl block-list $guest | awk 'NR > 1 && $1 >= 51728 { print $1, $4 }')" "51728 4
51744 4"

# On the file system: what is written is there after it was unmounted.
say 'dd if=/dev/urandom of=/mnt/noise bs=1M count=8 2>/dev/null; sum=$(sha256sum </mnt/noise); umount /mnt; mount -t ext4 /dev/xvdb /mnt'
say '[ "$sum" = "$(sha256sum </mnt/noise)" ] && echo kept-$((40 + 2))'
heard $guest kept-42 60

say '/mnt/exercise disk /dev/xvdc --seconds 60; echo exercised-$?'
heard $guest 'exercised-[0-9]' 240
heard $guest exercised-0 1
heard $guest 'disk verified: [1-9][0-9]* reads, [1-9][0-9]* writes' 1

xl block-attach $guest format=raw,vdev=xvdd,access=rw,target=/run/disk-16.img >/run/attach 2>&1 || fail "block-attach: $(cat /run/attach)"
say 'until [ -b /dev/xvdd ]; do sleep 0.2; done; /mnt/exercise disk /dev/xvdd --mib 8 --seconds 2; echo attached-$?'
heard $guest attached-0 120
xl block-detach $guest xvdd >/run/detach 2>&1 || fail "block-detach: $(cat /run/detach)"
say 'while [ -b /dev/xvdd ]; do sleep 0.2; done; echo detached-$((1 + 1))'
heard $guest detached-2 60
say 'umount /mnt; echo unmounted-$?'
heard $guest unmounted-0 60

# What the guest wrote is in dom0's files, and the file system is clean.
xl shutdown -w $guest >/run/shutdown.log 2>&1 || fail "xl shutdown: $(cat /run/shutdown.log)"
within 60 gone $guest || fail "$guest is still there: $(xl list)"
mount -t ext4 -o ro,loop /run/tools.img /mnt || fail "the guest's file system cannot be mounted"
[ "$(stat -c %s /mnt/noise)" = 8388608 ] || fail "the guest's file is gone: $(ls -l /mnt)"
umount /mnt
losetup -d "$device"
