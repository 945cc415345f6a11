# GRUB on UEFI boots the compressed image by multiboot 2, with dom0's files as its modules.
# machine: --boot grub-efi
# limit: 60
. ./lib

equal version "$(info xen_major).$(info xen_minor)" 4.20
case "$(info xen_commandline)" in "console=com1 "*) ;; *) fail "xen_commandline: $(info xen_commandline)" ;; esac
case "$(cat /proc/cmdline)" in *console=hvc0*) ;; *) fail "dom0's command line: $(cat /proc/cmdline)" ;; esac
xl dmesg | grep -q 'Bootloader: GRUB 2' || fail "not booted by GRUB: $(xl dmesg | head -n 20)"

# Without a BIOS, hypervisor and dom0 find the ACPI tables by what GRUB passes on.
equal nr_cpus "$(info nr_cpus)" 2
[ -d /sys/firmware/acpi/tables ] || fail "dom0 without ACPI: $(dmesg | grep -i acpi | head)"
[ -n "$(ls /sys/bus/pci/devices)" ] || fail "dom0 without PCI devices"
