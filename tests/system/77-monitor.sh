# A PVH guest that Debian's xen-access watches: it hears of each page that is written, or executed, for the first time; the guest
# goes on meanwhile, and afterwards without it.
# limit: 400
# long
guest=pvh
. ./lib

# watch WHAT: begins to watch the guest. What it hears is written to /run/heard at its end.
watch() {
    xen-access "$id" "$1" >/run/heard 2>/run/watcher.log &
    watcher=$!
    within 30 grep -q "^starting $1" /run/watcher.log || fail "xen-access $1: $(cat /run/watcher.log)"
    within 60 grep -q 'Got event' /run/watcher.log || unheard "$1"
}

# unheard WHAT: xen-access hears nothing. Xen 4.20 has rights to pages on Intel's CPUs only.
unheard() {
    if grep -q 'setting default mem access type' /run/watcher.log; then
        case $(info xen_extra) in *xenolith*) ;; *) skip "Xen has no rights to pages on this CPU" ;; esac
    fi
    fail "xen-access $1: $(tail -n 5 /run/watcher.log)"
}

# unwatch: ends that.
unwatch() {
    kill -INT $watcher
    wait $watcher || fail "xen-access: status $?: $(tail -n 5 /run/watcher.log)"
    tail -n 1 /run/watcher.log | grep -q 'exit code 0' || fail "xen-access: $(tail -n 5 /run/watcher.log)"
}

# pages RIGHTS: how many accesses of this kind to how many pages were heard of.
pages() {
    sed -n "s/^PAGE ACCESS: $1 for GFN \([0-9a-f]*\) .* (vcpu [01] \[p\], altp2m view 0)$/\1/p" /run/heard | sort |
        awk '{ count += 1; pages += $1 != last; last = $1 } END { print count + 0, pages + 0 }'
}

# busy: the guest does something new.
busy() {
    equal "work in the guest" "$(ask pvh "dd if=/dev/zero of=/new bs=64k count=$1 2>/dev/null; wc -c </new")" $(($1 * 65536))
}

nested_paging
create /root/guests/pvh.cfg
guest_shell pvh
id=$(xl domid pvh)

watch write
busy 2
unwatch
set -- $(pages rw-)
[ "$1" -ge 32 ] || fail "$1 writes: $(tail -n 5 /run/heard)"
# Two vCPUs may come to one page before either is answered.
[ "$1" -le $(($2 * 2)) ] || fail "$1 writes to $2 pages"
equal "lines of another kind" "$(grep -vc '^PAGE ACCESS: rw- ' /run/heard)" 0
busy 1

watch exec
busy 1
unwatch
set -- $(pages --x)
[ "$1" -ge 10 ] || fail "$1 pages executed: $(tail -n 5 /run/heard)"
known=$(grep -c '^PAGE ACCESS: --x .* (valid: y; fault in gpt: n; fault with gla: y)' /run/heard)
[ "$known" -ge 10 ] || fail "only $known instructions have an address: $(tail -n 5 /run/heard)"
busy 1

# What is not told is refused, and the guest does not notice.
xen-access "$id" breakpoint >/run/heard 2>/run/watcher.log
grep -q 'Error -1 setting breakpoint trapping' /run/watcher.log || fail "breakpoint: $(cat /run/watcher.log)"
busy 1

# It ends while it is watched.
watch exec
xl shutdown -w pvh >/run/shutdown.log 2>&1 || fail "xl shutdown: $(cat /run/shutdown.log)"
within 60 gone pvh || fail "pvh is still there: $(xl list)"
kill -INT $watcher
wait $watcher
grep -q '^PAGE ACCESS: --x ' /run/heard || fail "nothing heard at the end: $(tail -n 5 /run/watcher.log)"
