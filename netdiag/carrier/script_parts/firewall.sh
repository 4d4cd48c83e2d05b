
# ---- the packet filters that run ----------------------------------------------------------------------------------
title "rules of the packet filters that run"

# present MODULE: whether it is loaded or built in, so that asking for it loads nothing.
present() {
  grep -q "^$1 " /proc/modules 2>/dev/null && return 0
  grep -qE "(^|/)$1\.ko" "/lib/modules/$(uname -r)/modules.builtin" 2>/dev/null && return 0
  [ -n "${2:-}" ] || return 1
  grep -qs "^CONFIG_$2=y" "/boot/config-$(uname -r)" && return 0
  [ -r /proc/config.gz ] && have zcat && zcat /proc/config.gz 2>/dev/null | grep -q "^CONFIG_$2=y"
}

# Which of its two variants iptables is here.
run iptables --version
if iptables --version 2>/dev/null | grep -q nf_tables; then variant=nft; else variant=legacy; fi

# The old ip_tables: listed only where the kernel says that there are tables, for listing one would load it.
show_there /proc/net/ip_tables_names /proc/net/ip6_tables_names
for tool in iptables ip6tables; do
  names=/proc/net/ip_tables_names
  [ "$tool" = iptables ] || names=/proc/net/ip6_tables_names
  if [ -n "$(cat "$names" 2>/dev/null)" ]; then
    if [ "$variant" = legacy ]; then run "$tool-save" -c; else run "$tool-legacy-save" -c; fi
  fi
done

# nf_tables: its own tables, and those of iptables-nft, only where nf_tables is there and has any.
if present nf_tables NF_TABLES; then
  run nft -a list ruleset
  if have nft; then tables=$(within 10 nft list tables 2>/dev/null); else tables="table ip ? table ip6 ?"; fi
  if present nft_compat NFT_COMPAT; then
    for tool in iptables ip6tables; do
      family="table ip "
      [ "$tool" = iptables ] || family="table ip6 "
      case "$tables" in
        *"$family"*) if [ "$variant" = nft ]; then run "$tool-save" -c; else run "$tool-nft-save" -c; fi ;;
      esac
    done
  fi
else
  absent "command nft -a list ruleset" withheld "nf_tables is not loaded here, and listing would load it"
fi

# Sets that rules refer to.
if present ip_set IP_SET; then run ipset save; fi

# ---- the packet filters as they are saved -------------------------------------------------------------------------
title "rules as they are saved, and the programs that own rules"

# What the next reload or boot would install.
@@FILES saved show_there@@
# Which of those programs is there: whether a file exists, not what is in it.
for path in @@OWNERS@@; do
  if [ -e "$path" ]; then
    begin "file $path"
    finish 0
  fi
done
# Which of them run, and which start at boot.
run systemctl is-active @@ROLES@@
for unit in @@BOOT@@; do
  run systemctl is-enabled "$unit"
done
