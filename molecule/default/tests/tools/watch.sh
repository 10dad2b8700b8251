# Prints the arguments and variables of processes with $text in them, until /run/watching is gone,
# and "watched" at the end if there was a look. Whoever sends this puts text=... before it.
while [ -e /run/watching ]; do
    grep -aF -e "$text" /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\0' ' '
    looked=yes
    sleep 0.1
done
[ "${looked:-}" ] && echo watched
