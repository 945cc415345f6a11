# An HVM guest: SeaBIOS and GRUB start Debian's kernel from a disk of QEMU's; answers on its serial port, ends by xl shutdown.
# limit: 600
# long
. ./lib

info virt_caps | grep -q hvm || skip "the CPU has no nested paging"
create /root/guests/hvm.cfg
has_serial() {
    xenstore-read "/local/domain/$(xl domid hvm)/serial/0/tty" >/dev/null 2>&1
}
within 60 has_serial || fail "QEMU has given the serial port no terminal: $(cat /var/log/xen/qemu-dm-hvm.log)"
# Of 256 MiB, 8 are the screen's: the target in the store is without them, and the guest's balloon obeys.
lives hvm HVM 248
