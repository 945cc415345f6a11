# A PVH guest with Debian's kernel: boots, answers on its console, its time goes up, ends by xl shutdown.
# limit: 500
. ./lib

info virt_caps | grep -q hvm || skip "the CPU has no nested paging"
create /root/guests/pvh.cfg
lives pvh PVH
