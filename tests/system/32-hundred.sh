# A hundred guests of 16 MiB at once: each is there and runs, the hypervisor's own memory for each is what SUPPORT.md says.
# long
# limit: 900
. ./lib

guests=100

# heap: KiB of the hypervisor's heap that are in use; nothing on Xen, which has its heap in the machine's free memory.
heap() {
    xl debug-keys m
    xl dmesg | sed -n 's/.*Heap: \([0-9]*\) of .*/\1/p' | tail -n 1
}
seconds() {
    cut -d. -f1 /proc/uptime
}

# What the first guest alone needs of xenstored and its like is no guest's own.
create /root/guests/tiny.cfg 'name="first"'
free=$(info free_memory)
before=$(heap)
start=$(seconds)
for n in $(seq $guests); do
    create -q /root/guests/tiny.cfg "name=\"tiny$n\""
    case $n in 10 | 100) echo "$n guests after $(($(seconds) - start)) s" ;; esac
done
equal "guests" "$(xl list | grep -c '^tiny')" $guests
equal "guests that wait for events" "$(xl list | awk '/^tiny/ && $5 == "-b----"' | wc -l)" $guests
used=$(((free - $(info free_memory)) * 1024 / guests - 16 * 1024))
echo "memory beside its own for each guest: $used KiB"
between "KiB of the machine's memory for each guest beside its own" "$used" 0 256
if [ -n "$before" ]; then
    own=$((($(heap) - before) / guests))
    echo "heap for each guest: $own KiB"
    between "KiB of heap for each guest" "$own" 0 64
fi
for n in $(seq $guests); do
    xl destroy "tiny$n" || fail "xl destroy tiny$n"
done
none() {
    [ "$(xl list | grep -c '^tiny')" = 0 ]
}
within 60 none || fail "guests are left: $(xl list)"
back() {
    [ "$(info free_memory)" -ge $((free - 1)) ]
}
within 60 back || fail "free memory: $free MiB before, $(info free_memory) MiB after"
