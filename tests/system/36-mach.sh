# GNU Mach, a kernel that only runs in 32-bit PV guests: its first screen. It stops for want of a program to start.
# limit: 300
. ./lib

start() {
    [ -e "/root/guests/$2" ] || skip "no /root/guests/$2: the mirror did not give its package"
    create -e -p /root/guests/gnumach.cfg "name=\"$1\"" "kernel=\"/root/guests/$2\""
}

has_stopped() {
    case $(state "$1") in ???s??) ;; *) return 1 ;; esac
}

# buffer ID: what it would have said by its console, in one line; control characters are dots.
buffer() {
    # The address is that of one build. xenctx looks for return addresses afterwards, and there is no end to that.
    script -qfc "$(echo /usr/lib/xen*/bin/xenctx) -l 20 -D -d 0xc0094420 $1 0" /dev/null </dev/null >/run/dump 2>&1 &
    within 60 has_lines 21 /run/dump || fail "xenctx says: $(cat /run/dump)"
    kill $!
    head -n 21 /run/dump | tr -d '\r' | awk 'NR > 1 { printf "%s", substr($0, length($0) - 31) }'
}

has_lines() {
    [ "$(wc -l <"$2")" -ge "$1" ]
}

start mach11 gnumach-11.gz
console mach11
xl unpause mach11
heard mach11 'GNU Mach 1.8'
heard mach11 'Running on xen-3.0-x86_32p'
heard mach11 'biosmem: 0*:0*8000000, available'
# It asks the store for its devices.
heard mach11 'hd: No block device (ENOENT)'
heard mach11 'eth: No net device (ENOENT)'
heard mach11 'No bootstrap code loaded with the kernel!'
within 30 has_stopped mach11 || fail "Debian 11's runs on: $(xl list)"
xl destroy mach11

# Debian 13's does the same, but nothing in it starts its console.
start mach13 gnumach.gz
xl unpause mach13
within 60 has_stopped mach13 || fail "Debian 13's runs on: $(xl list)"
if zcat /root/guests/gnumach.gz | grep -q 'GNU Mach 1.8+git20250702-xen-486'; then
    buffer "$(xl domid mach13)" >/run/buffer
    for text in 'GNU Mach 1.8' '.Running on xen-3.0-x86_32p' '.biosmem: 0*:0*8000000, available' \
        '.hd: No block device (ENOENT)' '.eth: No net device (ENOENT)' 'No bootstrap code loaded with the kernel!'; do
        grep -q "$text" /run/buffer || fail "no '$text' in its buffer: $(cat /run/buffer)"
    done
fi
xl destroy mach13
