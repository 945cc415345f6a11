# HVM guests with kernels for 32-bit PCs, Debian 12's with PAE and without, on two vCPUs; GRUB starts them from a disk.
# machine: --more-guests
# limit: 2000
# long
guest=hvm
. ./lib

nested_paging
narrow_guests

# does_well NAME PAGING: it runs 32-bit programs on each vCPU, by tables of this kind, and time passes.
does_well() {
    equal "machine" "$(ask "$1" 'uname -m')" i686
    said=$(ask "$1" "for i in 1 2; do taskset \$i cut -d' ' -f39 /proc/self/stat; done")
    equal "processors of programs" "$said" "0 1"
    equal "paging" "$(paging "$1")" "$2"
    keeps_time "$1"
    no_complaints "$1"
}

# paging NAME: of its first vCPU: `narrow` (entries of 32 bits), `pae`, or `long`.
paging() {
    xen-hvmctx "$(xl domid "$1")" >/run/records || fail "xen-hvmctx: $(tail -n 3 /run/records)"
    [ $(($(record cr0) >> 31 & 1)) = 1 ] || fail "$1 has no paging: $(cat /run/records)"
    case $(($(record efer) >> 10 & 1))$(($(record cr4) >> 5 & 1)) in 00) echo narrow ;; 01) echo pae ;; *) echo long ;; esac
}

# record NAME: the first vCPU's register in /run/records.
record() {
    sed -n "s/.*\<$1  *\(0x\)\?\([0-9a-f][0-9a-f]*\).*/0x\2/p" /run/records | head -n 1
}

narrow_guest pae vmlinuz-pae
heard pae 'guest up: 6\.1.*-686-pae HVM 2 cpus'
does_well pae pae
xl shutdown -w pae >/run/shutdown.log 2>&1 || fail "xl shutdown: $(cat /run/shutdown.log)"
within 60 gone pae || fail "pae is still there: $(xl list)"

# The one without PAE is built without Xen's drivers: the board is all that it has.
narrow_guest narrow vmlinuz-686
heard narrow 'guest up: 6\.1.*-686 unknown 2 cpus'
does_well narrow narrow
say poweroff -f
within 120 gone narrow || fail "narrow is still there: $(tail -n 5 /run/console-narrow)"
