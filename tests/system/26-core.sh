# Images of a guest's memory: xl dump-core, and the one that on_crash takes.
# limit: 600
. ./lib

# number FILE OFFSET BYTES: an unsigned number in a file.
number() {
    od -A n -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '
}

# section FILE NAME: offset and size of a section of an ELF file.
section() {
    headers=$(number "$1" 40 8)
    count=$(number "$1" 60 2)
    strings=$(number "$1" $((headers + 64 * $(number "$1" 62 2) + 24)) 8)
    index=0
    while [ $index -lt "$count" ]; do
        at=$((headers + 64 * index))
        found=$(dd if="$1" bs=1 skip=$((strings + $(number "$1" $at 4))) count=32 2>/dev/null | tr '\0' '\n' | head -n 1)
        if [ "$found" = "$2" ]; then
            echo "$(number "$1" $((at + 24)) 8) $(number "$1" $((at + 32)) 8)"
            return
        fi
        index=$((index + 1))
    done
    fail "$1 has no section $2"
}

# What a core file of this kind of guest has: the map of its pages, bytes of an entry of that, and the magic number (dump-core-format);
# and the seconds it may take: of a PVH guest dom0 tries a million frames, twenty thousand instructions of its kernel each.
case $guest in
pv) map_name=.xen_p2m entry=16 kind=$((0xf00febed)) patience=300 ;;
*) map_name=.xen_pfn entry=8 kind=$((0xf00febee)) patience=1500 ;;
esac

# check FILE PAGES: it is a core file of a guest of this kind, of so many pages, and a few of the toolstack's where it is no PV guest.
check() {
    equal "magic number" "$(number "$1" 0 4)" $((0x464c457f))
    equal "class and byte order" "$(number "$1" 4 2)" $((0x0102))
    equal "type and machine" "$(number "$1" 16 2) $(number "$1" 18 2)" "4 62"
    pages=$(section "$1" .xen_pages) && map=$(section "$1" $map_name) && notes=$(section "$1" .note.Xen) ||
        fail "$pages $map $notes"
    count=$((${pages#* } / 4096))
    between "pages" $count "$2" $(($2 + (entry == 8) * 16))
    equal "entries of the map of pages" $((${map#* } / entry)) $count
    [ "$(stat -c %s "$1")" -ge $((${pages% *} + ${pages#* })) ] || fail "$1 ends before its pages: $(stat -c %s "$1")"
    # The second note: a magic number that stands for the kind, vCPUs, pages, size of a page.
    header=$((${notes% *} + 32))
    equal "kind of guest" "$(number "$1" $header 8)" $kind
    equal "vCPUs, pages, page size" "$(number "$1" $((header + 8)) 8) $(number "$1" $((header + 16)) 8) $(number "$1" $((header + 24)) 8)" \
        "1 $count 4096"
    tr -d '\0' <"$1" | grep -q needle-in-a-haystack || fail "the command line is not in $1"
}

# A kernel that waits for its root file system.
create "/root/guests/$guest.cfg" 'ramdisk=""' memory=80 vcpus=1 'on_crash="coredump-restart"' \
    'extra="console=hvc0 root=/dev/xvda1 rootwait sysrq_always_enabled needle-in-a-haystack"'
id=$(xl domid $guest)
console $guest
heard $guest 'Waiting for root device' 200
xl dump-core $guest /run/core || fail "xl dump-core"
case $(state $guest) in *p*) fail "paused after the dump" ;; esac
check /run/core 20480
rm /run/core

# It crashes, and is there again once its core is taken.
xl sysrq $guest c || fail "xl sysrq"
restarted() {
    now=$(xl domid $guest 2>/dev/null) && [ "$now" != "$id" ]
}
within $patience restarted || fail "no restart after the crash: $(xl list)"
check /var/lib/xen/dump/$guest 20480
rm /var/lib/xen/dump/$guest
