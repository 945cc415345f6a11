# How PVH guests end, and their core files, as for PV guests.
# limit: 4000
# long
guest=pvh
. ./lib

nested_paging
. ./25-crash.sh
. ./26-core.sh
