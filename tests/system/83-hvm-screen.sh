# What an HVM guest shows on its VGA screen, read over VNC by the font of its video BIOS: firmware, boot loader, kernel; and a
# shell there that hears the keyboard.
# limit: 600
# long
guest=hvm
. ./lib

nested_paging
create /root/guests/hvm.cfg
at=127.0.0.1:$(xenstore-read "/local/domain/$(xl domid hvm)/console/vnc-port") || fail "no VNC: $(xenstore-ls "/local/domain/$(xl domid hvm)")"

# shows TEXT: it is on the screen.
shows() {
    ./exercise screen "$at" --font /run/emulator/usr/share/qemu/vgabios-cirrus.bin >/run/screen 2>&1 && grep -q "$1" /run/screen
}
within 120 shows 'SeaBIOS (version' || fail "no SeaBIOS: $(cat /run/screen)"
within 120 shows 'Welcome to GRUB!' || fail "no GRUB: $(cat /run/screen)"
guest_shell hvm
# Of this level, so that it is shown whatever the command line says.
say 'echo "<0>the kernel speaks" >/dev/kmsg'
within 60 shows ' the kernel speaks' || fail "nothing of the kernel: $(cat /run/screen)"

# A short word: the keyboard's buffer has no room for a line that comes faster than the guest takes it.
say 'printf "echo keyboard-\$((6 * 7)) | tee /dev/ttyS0\n" >/bin/k; chmod +x /bin/k; setsid sh -c "exec sh </dev/tty1 >/dev/tty1 2>&1" & echo screen-$?'
heard hvm screen-0 60
./exercise screen "$at" --type k >/run/typed 2>&1 || fail "VNC: $(cat /run/typed)"
heard hvm keyboard-42 60
within 60 shows '^keyboard-42' || fail "no answer on the screen: $(cat /run/screen)"
