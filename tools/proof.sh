# What `make run` runs inside a container: it prints what makes this a container.
echo "PID of this shell:   $$"
echo "host name:           $(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)"
echo "user:                $(id -u) ($(cat /proc/self/uid_map | tr -s ' '))"
echo "processes seen:      $(ls -d /proc/[0-9]* | wc -l)"
echo "mounts:              $(wc -l < /proc/self/mountinfo)"
echo "network interfaces:  $(ls /sys/class/net 2>/dev/null | tr '\n' ' ')"
echo "seccomp:             $(sed -n 's/^Seccomp:\t//p' /proc/self/status) (2: filtered)"
