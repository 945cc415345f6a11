# QEMU in dom0 as the backend of a PV guest: a disk, and a screen and a keyboard over VNC.
# machine: --dom0 full
# long
# limit: 600
. ./lib

tools
# dom0 has one for disks of its own.
own=$(pidof xen-qemu-system-i386)
dd if=/dev/zero of=/run/disk.img bs=1M count=0 seek=64 2>/dev/null
# QEMU 10 serves vfb only when told of its screen (hw/display/xenfb.c), which libxl 4.20 does not do.
create /root/guests/pv.cfg "device_model_args = [ '-vga', 'xenfb' ]" "vfb = [ 'vnc=1,vnclisten=127.0.0.1,vncunused=0,vncdisplay=3' ]" \
    "disk = [ $(tools_disk pv), 'format=raw, vdev=xvdc, access=rw, backendtype=qdisk, target=/run/disk.img' ]" "extra = 'console=tty0 console=hvc0'"
guest_shell pv
equal "backend of the disk" "$(xenstore-list /local/domain/0/backend/qdisk | tr '\n' ' ')" "$(xl domid pv) "
load_tools pv
say '/mnt/exercise disk /dev/xvdc --mib 16 --seconds 20; echo exercised-$?'
heard pv 'exercised-[0-9]' 240
heard pv exercised-0 1

# A shell on the screen hears the keyboard. QEMU has begun to serve VNC without a screen, so it is told to show the first.
say 'cat /proc/bus/input/devices | grep -i xen; setsid sh -c "exec sh </dev/tty1 >/dev/tty1 2>&1" & echo screen-$?'
heard pv screen-0 60
./exercise screen 127.0.0.1:5903 --console 1 --type 'echo hello from the keyboard; touch /tmp/typed' >/run/typed 2>&1 || fail "VNC: $(cat /run/typed)"
say 'until [ -e /tmp/typed ]; do sleep 0.2; done; echo typed-$((1 + 1))'
heard pv typed-2 60

# What VNC shows is what the guest has in its frame buffer, to the pixel: 800 by 600, with text on it.
say 'echo 0 >/sys/class/graphics/fbcon/cursor_blink; sleep 2; head -c 1920000 /dev/fb0 | sha256sum'
heard pv '  -' 60
same() {
    ./exercise screen 127.0.0.1:5903 --picture /run/picture >/run/screen 2>&1 || fail "VNC: $(cat /run/screen)"
    grep -q "$(sha256sum </run/picture)" /run/console-pv
}
within 30 same || fail "the picture over VNC is not the guest's: $(cat /run/screen); $(tail -n 3 /run/console-pv)"
lit=$(sed -n 's/^screen of 800 by 600, \([0-9]*\) pixels lit/\1/p' /run/screen)
[ "${lit:-0}" -gt 1000 ] || fail "nothing on the screen: $(cat /run/screen)"
xl destroy pv || fail "xl destroy"
left() {
    [ "$(pidof xen-qemu-system-i386)" = "$own" ]
}
within 60 left || fail "QEMU is left: $(pidof xen-qemu-system-i386), before it was $own"
