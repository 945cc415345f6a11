#!/bin/sh
# Runs the test guest in dom0: each group of cases and each case that ends the domain in a domain of its own.
# Prints `== SECTION`, then what the guest said and how it ended. Arguments: the guest's type (pv, pvh or hvm), and the sections; none
# are all of them. As an HVM guest it takes the place of hvmloader, and its command line that of the BIOS.
type=$1
shift
files=/root/files
logs=/var/log/xen/console
config=/run/test.cfg

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

# start NAME: begins what is of that name in a domain; sets domain.
start() {
    domain=test-$1
    # A state that a processor has taken is its own for ever.
    case $type-$1 in pvh-processor | hvm-processor) vcpus=16 ;; *) vcpus=3 ;; esac
    printf %s "run=$1" >/run/line
    case $type in
    hvm) cat <<END ;;
firmware_override = "$files/pv-guest.firmware"
bios = "seabios"
bios_path_override = "/run/line"
vga = "none"
vnc = 0
END
    *) cat <<END ;;
kernel = "$files/pv-guest"
extra = "run=$1"
END
    esac >$config
    cat >>$config <<END
name = "$domain"
type = "$type"
memory = 32
vcpus = $vcpus
on_poweroff = "preserve"
on_reboot = "preserve"
on_crash = "preserve"
END
    xl create -q -e $config >/run/said 2>&1 || { cat /run/said >&2; return 1; }
}

# seconds: since the boot.
seconds() {
    cut -d . -f 1 /proc/uptime
}

# finish LIMIT: waits for the end of $domain, its lines go to /run/lines; sets end.
finish() {
    limit=$(($(seconds) + $1))
    until end=$(how "$domain"); do
        [ "$(seconds)" -lt $limit ] || { end="hangs"; break; }
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

# run NAME LIMIT: runs what is of that name, its lines go to /run/lines; sets end.
run() {
    : >/run/lines
    if start "$1"; then finish "$2"; else end='never began'; fi
}

# heard NAME LINE: waits until that domain has said so.
heard() {
    tries=0
    until grep -q "$2" "$logs/guest-test-$1.log" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 120 ] || { echo "$1 never said $2" >&2; return 1; }
        sleep 0.25
    done
}

# Two domains that share memory; the one that gives it is destroyed while the other one uses it.
pair() {
    start pair.give && start pair.take && heard pair.give 'give: waits' && heard pair.take 'take: waits' || return
    # A domain that is dying has no name.
    numbers="$(xl domid test-pair.give)|$(xl domid test-pair.take)"
    xl destroy test-pair.give
    tr -d '\r' <$logs/guest-test-pair.give.log
    domain=test-pair.take
    finish 60
    grep -v '^done$' /run/lines
    echo "pair.take.end: $end"
    gone=no
    for _ in 1 2 3 4 5 6 7 8; do
        xl list | awk '{ print $2 }' | grep -qxE "$numbers" || { gone=yes; break; }
        sleep 0.5
    done
    echo "pair.both-are-gone: $gone"
}

run list 60
cp /run/lines /run/list
[ -s /run/list ] || { echo "the guest printed nothing and $end" >&2; exit 1; }
wanted=" $* "
[ $type = pv ] && pair=pair
for section in $(sed -n 's/^group //p' /run/list) $pair crash; do
    case $wanted in *" $section "* | '  ') ;; *) continue ;; esac
    echo "== $section"
    if [ "$section" = pair ]; then
        pair
        continue
    fi
    if [ "$section" != crash ]; then
        run "$section" 120
        grep -v '^done$' /run/lines
        echo "$section.end: $end"
        continue
    fi
    for name in $(sed -n 's/^crash //p' /run/list); do
        run "crash.$name" 20
        grep -v -e ': begins$' -e '^done$' /run/lines | sed "s/^\(unexpected\|panic\):/crash.$name.\1:/"
        echo "crash.$name.end: $end"
    done
done
