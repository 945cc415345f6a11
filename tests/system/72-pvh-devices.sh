# Disks and networks of PVH guests, like those of PV guests.
# limit: 1200
# long
guest=pvh
. ./lib

nested_paging
. ./60-block.sh
. ./61-network.sh
