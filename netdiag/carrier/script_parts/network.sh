
# ---- devices, addresses, routes -----------------------------------------------------------------------------------
title "devices, addresses and routes of the host"

# ip prints JSON since iproute2 4.14 or so; before that, and in busybox, only text.
if [ "$(ip -j link show lo 2>/dev/null | head -c 1)" = "[" ]; then json=-j; else json=-o; fi

# Every device: its kind, MTU, state, counters, VXLAN numbers, and whether an XDP program is on it.
if [ "$json" = -j ]; then
  run ip -j -d -s link show
elif ip -o -d -s link show >/dev/null 2>&1; then
  run ip -o -d -s link show
else
  run ip -o link show
fi
# Every address.
run ip "$json" addr show
# Every route and every rule that chooses a routing table, and the names of those tables.
run ip "$json" -4 route show table all
run ip "$json" -6 route show table all
run ip "$json" -4 rule show
run ip "$json" -6 rule show
show_there @@RT_TABLES@@
# The neighbours' hardware addresses.
run ip "$json" neigh show nud all
# Forwarding entries of bridges and VXLAN devices.
if [ "$json" = -j ]; then run bridge -j fdb show; else run bridge fdb show; fi

# ---- network namespaces of overlay networks -----------------------------------------------------------------------
title "network namespaces, and the devices in those of overlay networks"

# The engine keeps a file for each; the inode says which is which.
begin namespaces
printf '|own %s\n' "$(ls -Lid /proc/self/ns/net 2>/dev/null | awk '{ print $1 }')" >&3
for path in /run/docker/netns/*; do
  [ ! -e "$path" ] || printf '|%s %s\n' "$path" "$(ls -Lid "$path" | awk '{ print $1 }')" >&3
done
finish 0

# Overlay networks have their VXLAN device inside "NUMBER-NETWORK"; looked into as root only, at most 32 of them.
looked=0
for path in /run/docker/netns/[0-9]*-*; do
  if [ -e "$path" ] && [ "$json" = -j ] && [ "$looked" -lt 32 ] && have nsenter && have bridge; then
    looked=$((looked + 1))
    for words in "ip -j -d -s link show" "ip -j addr show" "ip -j neigh show nud all" "bridge -j fdb show"; do
      # shellcheck disable=SC2086 # the words are the arguments
      record "command in=$path $words" 5 nsenter "--net=$path" $words
    done
  fi
done

# ---- sockets and settings -----------------------------------------------------------------------------------------
title "who listens, and the kernel's settings for the network"

# Listening TCP sockets (state 0A) and UDP sockets without a peer (state 07); no connection is listed.
for table in tcp tcp6; do
  show_part "/proc/net/$table" awk 'NR == 1 || $4 == "0A"' "/proc/net/$table"
done
for table in udp udp6; do
  show_part "/proc/net/$table" awk 'NR == 1 || $4 == "07"' "/proc/net/$table"
done

# Which process has them: its number and its name, of these sockets only.
begin process-sockets
for table in tcp tcp6 udp udp6; do
  awk '$4 == "0A" || $4 == "07" { print "inode " $10 }' "/proc/net/$table" 2>/dev/null
done | {
  cat
  ls -l /proc/[0-9]*/fd/ 2>/dev/null
} | awk '
  $1 == "inode" { wanted[$2] = 1; next }
  /^\/proc\/[0-9]+\/fd\/:$/ { split($0, part, "/"); pid = part[3]; next }
  match($NF, /^socket:\[[0-9]+\]$/) {
    inode = substr($NF, 9, length($NF) - 9)
    if (inode in wanted && !(inode in told)) { told[inode] = 1; print inode, pid }
  }' | while read -r inode pid; do
  comm=
  read -r comm <"/proc/$pid/comm" 2>/dev/null
  printf '|%s %s %s\n' "$inode" "$pid" "$comm" >&3
done
finish 0

# Settings that decide whether packets pass: forwarding, filters of sources, ARP, path MTU, connection tracking.
begin values
@@VALUES sysctls@@
finish 0
# How full the table of connections is, and what it dropped.
show_there /proc/sys/net/netfilter/nf_conntrack_count /proc/sys/net/netfilter/nf_conntrack_max /proc/net/stat/nf_conntrack
