# PVH guests are paused, restarted, and given memory or less of it, like PV guests.
# limit: 1500
# long
guest=pvh
. ./lib

nested_paging
. ./21-pause.sh
. ./22-reboot.sh
. ./23-memory.sh
