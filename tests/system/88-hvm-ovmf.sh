# An HVM guest with UEFI instead of a BIOS: OVMF connects its disk by Xen's drivers, and starts GRUB from there.
# machine: --more-guests
# limit: 2000
# long
guest=hvm
. ./lib

nested_paging
[ -e /dev/disk/by-id/virtio-uefi-firmware ] || skip "the mirror did not give the package of OVMF"
cp /dev/disk/by-id/virtio-uefi-firmware /run/OVMF.fd || fail "no room for the firmware"
create /root/guests/hvm.cfg "bios = 'ovmf'" "bios_path_override = '/run/OVMF.fd'" "memory = 512" \
    "disk = [ 'format=raw, vdev=hda, access=rw, target=/dev/disk/by-id/virtio-uefi-guest' ]"
console hvm
heard hvm 'guest up' 1500
heard hvm '~ #' 60
equal "bits of the firmware" "$(ask hvm 'cat /sys/firmware/efi/fw_platform_size')" 64
equal "firmware in the kernel's log" "$(ask hvm "dmesg | grep -c 'efi: EFI v.* by EDK II'")" 1
equal "ACPI tables from there" "$(ask hvm 'grep -c ^ACPI20= /sys/firmware/efi/systab')" 1
xl shutdown -w hvm >/run/shutdown.log 2>&1 || fail "xl shutdown: $(cat /run/shutdown.log)"
within 60 gone hvm || fail "hvm is still there: $(xl list)"
