# Prints the arguments and variables of processes with $text in them, until /run/watching is gone,
# and "watched" at the end if there was a look. Whoever sends this puts text=... before it.
while [ -e /run/watching ]; do
    # The text reaches grep on its standard input: as an argument it would find itself.
    printf '%s\n' "$text" | grep -aF -f - /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\0' ' '
    looked=yes
    sleep 0.1
done
[ "${looked:-}" ] && echo watched
