# dom0 drives a SATA disk behind AHCI (MSI), and two network cards: e1000e (MSI-X) and e1000 (a shared pin).
# machine: -- -drive file=null-co://,file.size=64M,if=none,id=sata,format=raw,snapshot=on -device ide-hd,drive=sata,bus=ide.5 -nic user,model=e1000e,net=10.0.3.0/24 -nic user,model=e1000,net=10.0.4.0/24
# limit: 120
. ./lib

# The disk: what is written is there after the kernel has forgotten it.
modprobe ahci && modprobe sd_mod || fail "no module for AHCI or its disks"
within 30 [ -b /dev/sda ] || fail "no disk: $(dmesg | grep -i ata | tail -n 20)"
dd if=/dev/urandom of=/run/written bs=1M count=16 2>/dev/null
dd if=/run/written of=/dev/sda bs=1M seek=8 conv=fsync 2>/run/dd || fail "write: $(cat /run/dd)"
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/sda of=/run/read bs=1M skip=8 count=16 2>/run/dd || fail "read: $(cat /run/dd)"
cmp /run/written /run/read || fail "the disk gives back something else"
mke2fs -q -t ext4 /dev/sda && mount -t ext4 /dev/sda /mnt || fail "no file system on the disk: $(dmesg | tail -n 5)"
cp /run/written /mnt/ && umount /mnt || fail "copy to the disk"
grep ahci /proc/interrupts | grep -q msi || fail "AHCI without MSI: $(cat /proc/interrupts)"
[ "$(interrupts ahci)" -gt 10 ] || fail "AHCI without interrupts: $(cat /proc/interrupts)"

# card DRIVER GATEWAY INTERRUPT: gets an address and answers from the gateway.
card() {
    for name in /sys/class/net/*; do
        case $(readlink "$name/device/driver") in */$1) name=${name##*/} && break ;; esac
    done
    [ -e "/sys/class/net/$name" ] || fail "no network card of $1: $(ls /sys/class/net)"
    ip link set "$name" up
    udhcpc -n -q -t 10 -i "$name" >/run/udhcpc 2>&1 || fail "$1: no address: $(cat /run/udhcpc)"
    ping -c 3 -W 5 -I "$name" "$2" >/run/ping || fail "$1: no answer from the gateway: $(cat /run/ping)"
    grep "$name" /proc/interrupts | grep -q -e "$3" || fail "$1 is not at $3: $(cat /proc/interrupts)"
    [ "$(interrupts "$name")" -gt 3 ] || fail "$1 without interrupts: $(cat /proc/interrupts)"
}
card e1000e 10.0.3.2 -msi-x
card e1000 10.0.4.2 -ioapic-level
