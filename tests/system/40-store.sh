# The XenStore daemon in C serves as well as Debian's default: a guest boots and ends.
# machine: --store xenstored
# limit: 450
. ./lib

[ -n "$(pidof xenstored)" ] || fail "xenstored does not run"
create /root/guests/pv.cfg
console pv
heard pv 'guest up' 300
equal name "$(xenstore-read "/local/domain/$(xl domid pv)/name")" pv
xl destroy pv || fail "xl destroy"
within 60 gone pv || fail "pv is still there: $(xl list)"
