# Several guests at once: each gets time, and none is lost when another goes.
# limit: 500
. ./lib

for n in 1 2 3 4 5 6; do
    create /root/guests/tiny.cfg "name=\"tiny$n\""
done
equal "guests" "$(xl list | grep -c '^tiny')" 6
xl destroy tiny3 || fail "xl destroy"
within 60 gone tiny3 || fail "tiny3 is still there"
equal "guests after one went" "$(xl list | grep -c '^tiny')" 5
xl rename tiny4 other || fail "xl rename"
exists other || fail "no guest of the new name"
xl mem-max other 32 || fail "xl mem-max"
