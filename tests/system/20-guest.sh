# A PV guest with Debian's kernel: boots on two vCPUs, answers on its console, its time goes up, ends by xl shutdown.
# limit: 500
. ./lib

create /root/guests/pv.cfg
lives pv PV
