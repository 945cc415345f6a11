# GRUB on a BIOS boots the compressed image by multiboot 2, with dom0's files as its modules.
# machine: --boot grub
# limit: 60
. ./lib

equal version "$(info xen_major).$(info xen_minor)" 4.20
case "$(info xen_commandline)" in "console=com1 "*) ;; *) fail "xen_commandline: $(info xen_commandline)" ;; esac
case "$(cat /proc/cmdline)" in *console=hvc0*) ;; *) fail "dom0's command line: $(cat /proc/cmdline)" ;; esac
xl dmesg | grep -q 'Bootloader: GRUB 2' || fail "not booted by GRUB: $(xl dmesg | head -n 20)"
