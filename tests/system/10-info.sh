# `xl info`, `xl list`, `xl vcpu-list` and `xl dmesg` tell the machine as it is.
# machine: --smp 2 --mem 4096 --dom0-mem 1024
# limit: 200
. ./lib

equal nr_cpus "$(info nr_cpus)" 2
equal max_cpu_id "$(info max_cpu_id)" 1
equal version "$(info xen_major).$(info xen_minor)" 4.20
equal cores_per_socket "$(info cores_per_socket)" 2
equal threads_per_core "$(info threads_per_core)" 1
equal nr_nodes "$(info nr_nodes)" 1
equal xen_pagesize "$(info xen_pagesize)" 4096
equal xen_scheduler "$(info xen_scheduler)" credit2
case " $(info xen_caps) " in *" xen-3.0-x86_64 "*) ;; *) fail "xen_caps: $(info xen_caps)" ;; esac
[ -n "$(info xen_extra)" ] || fail "no xen_extra"
[ "$(info cpu_mhz | cut -d. -f1)" -gt 100 ] || fail "cpu_mhz: $(info cpu_mhz)"
case "$(info xen_commandline)" in *dom0_mem=1024M*) ;; *) fail "xen_commandline: $(info xen_commandline)" ;; esac

total=$(info total_memory)
free=$(info free_memory)
between total_memory "$total" 4032 4096
between free_memory "$free" $((total - 1024 - 400)) $((total - 1024))

set -- $(xl list | awk 'NR == 2')
equal "dom0's line in xl list" "$1 $2 $3 $4" "Domain-0 0 1024 2"
case $5 in r-----) ;; *) fail "dom0's state is $5" ;; esac
equal "domains" "$(xl list | wc -l)" 2
equal "dom0's vCPUs" "$(xl vcpu-list 0 | awk 'NR > 1 { print $3 }' | tr '\n' ' ')" "0 1 "

xl dmesg >/run/dmesg || fail "xl dmesg"
between "lines of xl dmesg" "$(wc -l </run/dmesg)" 20 100000
grep -q 'dom0_mem=1024M' /run/dmesg || fail "xl dmesg does not have the command line"
xl debug-keys h || fail "xl debug-keys h"
xl dmesg | tail -n 60 | grep -qi "'h' pressed" || fail "debug key h is not in xl dmesg"
xl uptime | grep -q Domain-0 || fail "xl uptime"
xentop -b -i 1 | grep -q Domain-0 || fail "xentop"

# Debug keys report, and the machine goes on.
for key in e g i m q r t; do
    xl debug-keys $key || fail "xl debug-keys $key"
    xl dmesg | tail -n 400 | grep -q "'$key' pressed" || fail "debug key $key is not in xl dmesg"
done
