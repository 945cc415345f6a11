# Disks and networks of HVM guests with PV drivers, like those of PV guests; the emulated ones are unplugged.
# limit: 1500
# long
guest=hvm
. ./lib

nested_paging
. ./60-block.sh
. ./61-network.sh
