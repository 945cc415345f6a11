# vCPUs of a guest: hotplug between 1 and 32, pinning, a cap that is kept to, and the stolen time that the guest sees.
# limit: 600
. ./lib

# states: how many vCPUs the toolstack shows as up.
up() {
    xl vcpu-list $guest | awk 'NR > 1 && $5 !~ /p/ { n++ } END { print n + 0 }'
}

# up_are NUMBER
up_are() {
    [ "$(up)" = "$1" ]
}

# place VCPU: its CPU, hard and soft affinity.
place() {
    xl vcpu-list $guest | awk -v vcpu="$1" 'NR > 1 && $3 == vcpu { print $4, $7, $9 }'
}

# Linux 6.12 as a PVH guest has APIC ids of those vCPUs alone that are up when it boots ("invalid APIC ID ffff" of others, on Debian's
# Xen as well): there all are, and go down first.
case $guest in pvh) first=32 ;; *) first=2 ;; esac
# Two CPUs, and what all that the guest may have are called; CPU 0 is not a PVH guest's (xl.conf, vm.hvm.cpumask).
case $guest in pvh) one=1 other=2 any=1-2 ;; *) one=0 other=1 any=all ;; esac
create "/root/guests/$guest.cfg" vcpus=$first maxvcpus=32
guest_shell $guest
equal "vCPUs after the guest came up" "$(up)" $first
equal "vCPUs in the list" "$(xl vcpu-list $guest | awk 'NR > 1' | wc -l)" 32
equal "CPUs of the guest" "$(ask $guest nproc)" $first
xl vcpu-set $guest 2 || fail "xl vcpu-set 2"
within 150 up_are 2 || fail "vCPUs when there are to be two: $(xl vcpu-list $guest)"

# Up: the toolstack offers them, the guest takes them.
xl vcpu-set --ignore-host $guest 32 || fail "xl vcpu-set 32"
online='for cpu in /sys/devices/system/cpu/cpu*/online; do [ "$(cat $cpu)" = 1 ] || echo 1 >$cpu; done; nproc'
present() {
    [ "$(ask $guest 'ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l')" = 32 ]
}
within 60 present || fail "the guest does not see 32 vCPUs: $(tail -n 5 /run/console-$guest)"
say "$online; echo all''-online"
heard $guest all-online 200
equal "CPUs after hotplug" "$(ask $guest nproc)" 32
within 30 up_are 32 || fail "vCPUs after hotplug: $(xl vcpu-list $guest)"
# Each does some work.
say 'for cpu in $(seq 0 31); do taskset $(printf 0x%x $((1 << cpu))) cut -d" " -f39 /proc/self/stat; done >/tmp/ran; echo each''-ran'
heard $guest each-ran 60
equal "vCPUs that ran a process" "$(ask $guest 'sort -nu /tmp/ran | wc -l')" 32

# Down.
xl vcpu-set $guest 1 || fail "xl vcpu-set 1"
within 150 up_are 1 || fail "vCPUs after the guest gave them up: $(xl vcpu-list $guest)"
equal "CPUs after that" "$(ask $guest nproc)" 1
xl vcpu-set $guest 33 >/run/refused 2>&1 && fail "33 vCPUs of 32"

# Pinning: hard, soft, both; a CPU that is not there.
xl vcpu-pin $guest 0 $other || fail "xl vcpu-pin"
ask $guest nproc >/dev/null
equal "vCPU 0, pinned to one CPU" "$(place 0)" "$other $other all"
xl vcpu-pin $guest 0 $one || fail "xl vcpu-pin"
ask $guest nproc >/dev/null
equal "vCPU 0, pinned to another one" "$(place 0)" "$one $one all"
xl vcpu-pin $guest 0 all $other || fail "xl vcpu-pin, soft"
equal "vCPU 0 with soft affinity" "$(place 0 | cut -d' ' -f2-)" "$any $other"
xl vcpu-pin $guest all $one $one-$other || fail "xl vcpu-pin all"
equal "vCPU 31" "$(place 31)" "- $one $any"
xl vcpu-pin $guest 0 7 >/run/refused 2>&1 && fail "a vCPU pinned to a CPU that is not there"
equal "affinity after the refused one" "$(place 0 | cut -d' ' -f2-)" "$one $any"
xl vcpu-pin $guest all all all || fail "xl vcpu-pin back"

# A vCPU that is busy all the time, under a cap: what it does not get is stolen.
uptime_now() {
    tr -d . </proc/uptime | cut -d' ' -f1
}
# measure SECONDS: sets passed, ran and stolen, in hundredths of a second.
measure() {
    stolen=$(ask $guest 'sed -n "s/^cpu0 //p" /proc/stat' | awk '{ print $8 }')
    passed=$(uptime_now)
    ran=$(cpu_time $guest)
    sleep "$1"
    ran=$((($(cpu_time $guest) - ran) * 10))
    passed=$(($(uptime_now) - passed))
    stolen=$(($(ask $guest 'sed -n "s/^cpu0 //p" /proc/stat' | awk '{ print $8 }') - stolen))
}
say 'while :; do :; done &'
ask $guest 'echo busy' >/dev/null
measure 5
[ "$ran" -gt $((passed * 7 / 10)) ] || fail "without a cap it ran $ran of $passed"
xl sched-credit2 -d $guest -c 50 || fail "xl sched-credit2"
equal "cap as the toolstack shows it" "$(xl sched-credit2 -d $guest | awk 'END { print $4 }')" 50
measure 10
between "time run under a cap of 50, of $passed" "$ran" $((passed * 40 / 100)) $((passed * 56 / 100))
# Asking took the guest a little time too.
between "stolen time, of $passed of which it ran $ran" "$stolen" $(((passed - ran) * 80 / 100)) $(((passed - ran) * 140 / 100))
xl sched-credit2 -d $guest -c 0 || fail "xl sched-credit2"
measure 5
[ "$ran" -gt $((passed * 7 / 10)) ] || fail "after the cap was lifted it ran $ran of $passed"
