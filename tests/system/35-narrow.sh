# 32-bit PV guests: Debian's GRUB for i386-xen runs commands. Debian's own Xen is built without them.
# limit: 300
. ./lib

info xen_caps | grep -q xen-3.0-x86_32p || fail "xen_caps: $(info xen_caps)"

create /root/guests/grub32.cfg
console grub32
heard grub32 'grub>' 120
say 'echo answer-$grub_cpu-$grub_platform'
heard grub32 answer-i386-xen 60
equal "memory of GRUB" "$(xl list grub32 | awk 'NR == 2 { print $3 }')" 128
say halt
within 60 gone grub32 || xl destroy grub32
