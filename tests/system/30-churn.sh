# Fifty guests come and go; the hypervisor's free memory is what it was.
# limit: 1200
. ./lib

before=$(info free_memory)
i=0
while [ $i -lt 50 ]; do
    create /root/guests/tiny.cfg
    xl destroy tiny || fail "xl destroy in round $i"
    i=$((i + 1))
done
equal "domains left" "$(xl list | wc -l)" 2
same() {
    [ "$(info free_memory)" = "$before" ]
}
within 30 same || fail "free memory: $before MiB before, $(info free_memory) MiB after 50 guests"
