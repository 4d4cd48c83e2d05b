
# ---- the end ------------------------------------------------------------------------------------------------------
# Without this line the text was cut off on its way.
printf '@complete\n' >&3
