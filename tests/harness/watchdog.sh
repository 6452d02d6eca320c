# Ends what a test process started and could not end itself, because it was killed or because it
# shares it until its last test. The process holds the other end of our standard input; when it is
# gone, however it went, `cat` ends. Only processes with the run's own directory, a random name, in
# their arguments are touched.
trap '' INT TERM HUP
cat >/dev/null

ours() {
    if [ -d /proc/self ]; then
        for process in /proc/[0-9]*; do
            if tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qF "$TRIBOX_TEST_RUN"; then
                echo "${process#/proc/}"
            fi
        done
    else
        ps -axo pid=,command= | grep -F "$TRIBOX_TEST_RUN" | grep -v grep | awk '{ print $1 }'
    fi
}

# A frozen process takes no other signal.
for signal in CONT INT KILL; do
    for pid in $(ours); do kill "-$signal" "$pid" 2>/dev/null; done
    rounds=50
    while [ "$signal" != CONT ] && [ -n "$(ours)" ] && [ $rounds -gt 0 ]; do
        sleep 0.1
        rounds=$((rounds - 1))
    done
done
# What is mounted below its directory is its own as well.
if [ -r /proc/mounts ]; then
    awk -v run="$TRIBOX_TEST_RUN/" 'index($2, run) == 1 { print $2 }' /proc/mounts |
        while read -r place; do umount -l "$place"; done
fi
rm -rf "$TRIBOX_TEST_RUN"
