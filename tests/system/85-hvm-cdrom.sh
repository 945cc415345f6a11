# An HVM guest without a disk starts from a CD-ROM: SeaBIOS by El Torito, GRUB by ISO 9660, and Debian's kernel from there.
# limit: 900
# long
guest=hvm
. ./lib

nested_paging
create /root/guests/hvm.cfg "disk = [ 'format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/dev/disk/by-id/virtio-hvm-cdrom' ]" "boot = 'd'"
console hvm
heard hvm 'Debian on a CD-ROM' 240
heard hvm 'guest up' 500
heard hvm '~ #' 60
say 'grep -c console=ttyS0 /proc/cmdline; echo answer-$((6 * 7))'
heard hvm answer-42 60
xl destroy hvm || fail "xl destroy"
within 60 gone hvm || fail "hvm is still there: $(xl list)"
