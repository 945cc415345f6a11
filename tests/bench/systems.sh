#!/bin/sh
# Counts what operations cost in whole systems: Debian's kernel with the same programs as dom0 (dom0), as a guest (pv, pvh), and with
# no hypervisor (none); prints lines `cost system-TYPE/GROUP.NAME COUNT`, of none `cost system/GROUP.NAME COUNT`.
files=/root/files
# The measured programs' own root, here as in guests.
root=/run/system
logs=/var/log/xen/console

# The small guest's programs and ours.
programs() {
    mkdir -p $root && cd $root || return
    busybox cpio -idm </root/guests/initrd 2>/run/unpacked || { cat /run/unpacked >&2; return 1; }
    [ ! -e $files/compiler.cpio ] || busybox cpio -idm <$files/compiler.cpio 2>/run/unpacked || { cat /run/unpacked >&2; return 1; }
    ln -s usr/lib64 lib64
    cp $files/init init
    cp $files/exercise $files/measure $files/sources bin/
    find . | busybox cpio -o -H newc >/run/initrd
}

# disk NAME: $device is a loop device on a file in memory.
disk() {
    busybox dd if=/dev/zero of="/run/$1.disk" bs=1M count=8 2>/dev/null && device=$(losetup -f) && losetup "$device" "/run/$1.disk"
}

# own TYPE: measures this very system. The stream goes through the loopback interface.
own() {
    mount -t proc proc $root/proc && mount -t sysfs sys $root/sys && mount -t devtmpfs dev $root/dev && disk "$1" || return
    chroot $root exercise cost drain 7000 >/run/drain 2>&1 &
    wait_for 10 listening /run/drain || return
    chroot $root measure "$device" 127.0.0.1 >/run/lines
    ended=$?
    kill $!
    show "$1"
    return $ended
}

# show TYPE: the figures in /run/lines.
show() {
    case $1 in none) of=system ;; *) of=system-$1 ;; esac
    sed -n "s|^cost |cost $of/|p" /run/lines
}

# wait_for SECONDS PATTERN FILE: looks rarely, since that costs, too.
wait_for() {
    tries=0
    until grep -qE "$2" "$3" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt "$1" ] || { echo "no '$2' in $3:" >&2; tail -n 20 "$3" >&2; return 1; }
        sleep 1
    done
}

# The console daemon again, now with logs, and a bridge for the guests.
host() {
    [ ! -e /sys/class/net/xenbr0 ] || return 0
    bin=$(/usr/lib/xen-common/bin/xen-dir)/bin
    mkdir -p $logs
    kill "$(cat /run/xenconsoled.pid)"
    while [ -e "/proc/$(cat /run/xenconsoled.pid)" ]; do
        sleep 0.1
    done
    "$bin/xenconsoled" --log=guest --log-dir=$logs --pid-file /run/xenconsoled.pid || return
    brctl addbr xenbr0 && ip link set xenbr0 up
}

# make NAME TYPE NUMBER: creates a guest, with the log $log. Its TSC is the CPU's: Xen would emulate it on a CPU that does not say that
# it is invariant, which the emulated one cannot, and the kernel reads it in each system call.
make() {
    disk "$1" || return
    cat >/run/system.cfg <<END
name = "$1"
type = "$2"
kernel = "/root/guests/vmlinuz"
ramdisk = "/run/initrd"
extra = "console=hvc0 role=$1"
memory = 256
vcpus = 1
tsc_mode = "native"
disk = [ "phy:$device,xvdb,w" ]
vif = [ "bridge=xenbr0,mac=00:16:3e:00:00:0$3" ]
on_crash = "preserve"
END
    log=$logs/guest-$1.log
    rm -f "$log"
    xl create -q /run/system.cfg >/run/said 2>&1 || { cat /run/said >&2; return 1; }
}

# guest TYPE: measures a guest, which sends its stream to another one of the same type.
guest() {
    host && make drain "$1" 3 && wait_for 15 '^listening' "$log" && make measured "$1" 2 || return
    wait_for 40 '^done|Kernel panic' "$log"
    tr -d '\r' <"$log" >/run/lines
    for name in measured drain; do
        xl destroy $name
    done
    show "$1"
    grep -q '^done 0' /run/lines || { grep -v '^cost ' /run/lines | tail -n 20 >&2; return 1; }
}

programs || exit
status=0
for what in "$@"; do
    case $what in
    dom0 | none) own "$what" || status=1 ;;
    *) guest "$what" || status=1 ;;
    esac
done
exit $status
