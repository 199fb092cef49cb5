#!/usr/bin/env bash
# Starts a run again until it is done, on machines that may vanish or be rebooted under it.
#
#     launch/until_done.sh --config=cifar10_rum.py --workdir=/mnt/disk/cifar10
#
# A run goes on where it stopped. An error that starting again cannot mend (exit status 1 or 2), a
# run that is done though a model diverged (4), and Ctrl-C (130) end the loop. A run that was told to
# stop (75) starts again at once; after anything else, a kill for example, PAUSE seconds (30) pass.
# SIGTERM is passed on to the run, and ends the loop with it.
set -u
python=${PYTHON:-python}
stopping=0
trap 'stopping=1; kill -TERM "$run" 2>/dev/null' TERM
while true; do
    "$python" -m rumjax.launch "$@" &
    run=$!
    # A signal ends the first wait, not the run.
    wait "$run"
    status=$?
    while kill -0 "$run" 2>/dev/null; do
        wait "$run"
        status=$?
    done
    [ $stopping = 1 ] && exit $status
    case $status in
        0 | 1 | 2 | 4 | 130) exit $status ;;
        75) echo "rumjax.launch was told to stop; starting again" >&2 ;;
        *)
            echo "rumjax.launch ended with status $status; starting again in ${PAUSE:-30} s" >&2
            sleep "${PAUSE:-30}"
            ;;
    esac
done
