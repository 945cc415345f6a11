#!/bin/sh
# Runs the test guest in dom0: each group of cases and each case that ends the domain in a domain of its own.
# Prints `== SECTION`, then what the guest said and how it ended. Arguments: the sections; none are all of them.
files=/root/files
logs=/var/log/xen/console
config=/run/pv-test.cfg

# The console daemon again, now with logs.
bin=$(/usr/lib/xen-common/bin/xen-dir)/bin
mkdir -p $logs
kill "$(cat /run/xenconsoled.pid)"
while [ -e "/proc/$(cat /run/xenconsoled.pid)" ]; do
    sleep 0.1
done
"$bin/xenconsoled" --log=guest --log-dir=$logs --pid-file /run/xenconsoled.pid || exit

# how NAME: how its domain ended, if it did.
how() {
    state=$(xl list "$1" 2>/dev/null | awk 'NR == 2 { print $5 }')
    case $state in
    '') echo vanished ;;
    ????c?) echo crashed ;;
    ???s??) echo 'shut down' ;;
    ?????d) echo dying ;;
    *) return 1 ;;
    esac
}

# run NAME LIMIT: runs what is of that name, its lines go to /run/lines; sets end.
run() {
    : >/run/lines
    domain=pv-test-$1
    cat >$config <<END
name = "$domain"
kernel = "$files/pv-guest"
extra = "run=$1"
memory = 32
vcpus = 3
on_poweroff = "preserve"
on_reboot = "preserve"
on_crash = "preserve"
END
    if ! xl create -q -e $config >/run/said 2>&1; then
        cat /run/said >&2
        end='never began'
        return
    fi
    tries=0
    until end=$(how "$domain"); do
        tries=$((tries + 1))
        [ $tries -lt $(($2 * 4)) ] || { end="hangs"; break; }
        sleep 0.25
    done
    # The daemon takes what is left in the ring.
    tries=0
    size=-1
    until now=$(wc -c <"$logs/guest-$domain.log"); [ "$now" = $size ] || [ $tries -gt 20 ]; do
        size=$now
        tries=$((tries + 1))
        sleep 0.2
    done
    tr -d '\r' <"$logs/guest-$domain.log" >/run/lines
    xl destroy "$domain" >/dev/null 2>&1
}

run list 30
cp /run/lines /run/list
[ -s /run/list ] || { echo "the guest printed nothing and $end" >&2; exit 1; }
wanted=" $* "
for section in $(sed -n 's/^group //p' /run/list) crash; do
    case $wanted in *" $section "* | '  ') ;; *) continue ;; esac
    echo "== $section"
    if [ "$section" != crash ]; then
        run "$section" 60
        grep -v '^done$' /run/lines
        echo "$section.end: $end"
        continue
    fi
    for name in $(sed -n 's/^crash //p' /run/list); do
        run "crash.$name" 8
        grep -v -e ': begins$' -e '^done$' /run/lines | sed "s/^\(unexpected\|panic\):/crash.$name.\1:/"
        echo "crash.$name.end: $end"
    done
done
