# A PVH guest with Debian's kernel: boots, answers on its console, its time goes up, ends by xl shutdown.
# limit: 500
. ./lib

nested_paging
create /root/guests/pvh.cfg
lives pvh PVH
