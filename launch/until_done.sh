#!/usr/bin/env bash
# Starts a run again until it is done, on machines that may vanish or be rebooted under it.
#
#     launch/until_done.sh --config=cifar10_rum.py --workdir=/mnt/disk/cifar10
#
# A run goes on where it stopped. An error that starting again cannot mend (exit status 1 or 2) ends
# the loop; anything else, a signal for example, is waited out for PAUSE seconds (30). With
# DRY_RUN=1 it prints what it would do.
set -u
python=${PYTHON:-python}
if [ "${DRY_RUN:-0}" = 1 ]; then
    echo "$python -m rumjax.launch $*"
    exit 0
fi
while true; do
    "$python" -m rumjax.launch "$@"
    status=$?
    case $status in
        0 | 1 | 2) exit $status ;;
    esac
    echo "rumjax.launch ended with status $status; starting again in ${PAUSE:-30} s" >&2
    sleep "${PAUSE:-30}"
done
