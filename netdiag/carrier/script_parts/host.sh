
# ---- the host itself ----------------------------------------------------------------------------------------------
title "who this host is"

# Its name, kernel and machine type, and whether this runs as root.
begin identity
printf '|hostname=%s\n|kernel_release=%s\n|architecture=%s\n|euid=%s\n' \
  "$(uname -n)" "$(uname -r)" "$(uname -m)" "$(id -u)" >&3
finish 0

# Its clock: certificates have a window, and two clocks may differ.
begin clock
printf '|%s\n' "$(date -u +%s)" >&3
finish 0

# Which distribution it is, which machine, since when it runs, on which platform.
@@FILES identity show_there@@

# Which features its kernel has: loaded modules, its configuration and its list of modules (the lines that matter).
show_there /proc/sys/kernel/osrelease /proc/modules /proc/sys/kernel/modules_disabled /proc/sys/kernel/tainted
release=$(uname -r)
symbols='^CONFIG_(@@SYMBOLS@@)='
modules='(^|/)(@@MODULES@@)\.ko'
if [ -r /proc/config.gz ] && have zcat; then
  show_part /proc/config.gz sh -c "zcat /proc/config.gz | grep -E '$symbols'"
fi
show_part "/boot/config-$release" grep -E "$symbols" "/boot/config-$release"
show_part "/lib/modules/$release/modules.builtin" grep -E "$modules" "/lib/modules/$release/modules.builtin"
show_part "/lib/modules/$release/modules.dep" grep -oE "^[^:]*${modules}[^:]*:" "/lib/modules/$release/modules.dep"

# Signs of features in use: the storage driver, IPVS (its first line only), the cipher of encrypted networks.
show_part /proc/filesystems grep overlay /proc/filesystems
[ ! -e /proc/net/ip_vs ] || show_part /proc/net/ip_vs head -n 1 /proc/net/ip_vs
show_part /proc/crypto grep -F 'gcm(aes)' /proc/crypto
show_there /proc/sys/net/ipv4/vs/conntrack
