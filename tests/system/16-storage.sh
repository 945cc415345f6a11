# dom0 drives an NVMe disk (MSI-X, a queue for each CPU) and, behind xHCI, a USB stick and a keyboard.
# machine: -- -drive file=null-co://,file.size=64M,if=none,id=flash,format=raw,snapshot=on -device nvme,drive=flash,serial=1 -drive file=null-co://,file.size=64M,if=none,id=stick,format=raw,snapshot=on -device qemu-xhci,id=usb -device usb-storage,bus=usb.0,drive=stick -device usb-kbd,bus=usb.0
# limit: 150
. ./lib

dd if=/dev/urandom of=/run/written bs=1M count=8 2>/dev/null

# disk DEVICE: what is written is there after the kernel has forgotten it, by a file system too.
disk() {
    dd if=/run/written of="$1" bs=1M seek=8 conv=fsync 2>/run/dd || fail "$1: write: $(cat /run/dd)"
    echo 3 >/proc/sys/vm/drop_caches
    dd if="$1" of=/run/read bs=1M skip=8 count=8 2>/run/dd || fail "$1: read: $(cat /run/dd)"
    cmp /run/written /run/read || fail "$1 gives back something else"
    mke2fs -q -t ext4 "$1" && mount -t ext4 "$1" /mnt || fail "$1: no file system: $(dmesg | tail -n 5)"
    cp /run/written /mnt/ && umount /mnt || fail "$1: copy"
}

modprobe nvme || fail "no module for NVMe"
within 30 [ -b /dev/nvme0n1 ] || fail "no NVMe disk: $(dmesg | grep -i nvme | tail)"
disk /dev/nvme0n1
grep nvme0q /proc/interrupts | grep -q -e '-msi-x' || fail "NVMe without MSI-X: $(cat /proc/interrupts)"
equal "queues of the NVMe disk with an interrupt" "$(grep -c 'nvme0q[1-9]' /proc/interrupts)" "$(nproc)"
for cpu in $(seq 0 $(($(nproc) - 1))); do
    taskset "$(printf 0x%x $((1 << cpu)))" dd if=/dev/nvme0n1 of=/dev/null bs=4k count=64 iflag=direct 2>/dev/null || fail "read by CPU $cpu"
done
grep 'nvme0q[1-9]' /proc/interrupts | awk '{ for (i = n = 0; ++i <= NF;) if (i > 1 && $i ~ /^[0-9]+$/) n += $i; if (!n) exit 1 }' ||
    fail "a queue without interrupts: $(cat /proc/interrupts)"

modprobe xhci_pci && modprobe usb_storage && modprobe sd_mod && modprobe usbhid && modprobe hid_generic || fail "no module for USB"
within 60 [ -b /dev/sda ] || fail "no USB stick: $(dmesg | grep -i usb | tail)"
disk /dev/sda
grep xhci /proc/interrupts | grep -q msi || fail "xHCI without MSI: $(cat /proc/interrupts)"
[ "$(interrupts xhci)" -gt 10 ] || fail "xHCI without interrupts: $(cat /proc/interrupts)"
within 30 grep -q 'USB Keyboard' /proc/bus/input/devices || fail "no keyboard: $(cat /proc/bus/input/devices)"
