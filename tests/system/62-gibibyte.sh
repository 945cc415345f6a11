# A gibibyte by TCP from dom0 to a guest, and one back.
# long
# limit: 1500
. ./lib
. ./net

bridge
tools
create /root/guests/pv.cfg "vif = [ 'bridge=xenbr0' ]" "disk = [ $(tools_disk pv) ]"
address=$(networked pv) || fail "$address"
to_guest pv "$address" 7001 1024
from_guest pv "$address" 7002 1024
