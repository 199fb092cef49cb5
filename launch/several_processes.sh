#!/usr/bin/env bash
# Several processes on one host, which train one bank: a process for each GPU, or for some cores.
#
#     launch/several_processes.sh 4 --config=cifar10_rum.py --workdir=runs/cifar10
#
# GPUS=4      that many GPUs: process I sees GPU I modulo 4 alone. Without it, the cores are divided.
# LOGS=DIR    where each process writes its log (logs); process 0 does the rest of the run.
# DRY_RUN=1   prints what it would do.
#
# Each process is started again until it is done (until_done.sh). Ctrl-C or SIGTERM ends all of them.
# The exit status is the worst of theirs.
set -u
count=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
logs=${LOGS:-logs}
cores=$(nproc)
each=$((cores / count > 0 ? cores / count : 1))
words_of() { # process $1: what it is started by, a word a line
    local first=$(($1 * each % cores))
    if [ -n "${GPUS:-}" ]; then
        printf '%s\n' env "CUDA_VISIBLE_DEVICES=$(($1 % GPUS))" "$here/until_done.sh"
    else
        command -v taskset >/dev/null && printf '%s\n' taskset -c "$first-$((first + each - 1))"
        printf '%s\n' "$here/until_done.sh" "--cpu_devices=$each"
    fi
    printf '%s\n' "--process=$1" "--processes=$count"
}
[ "${DRY_RUN:-0}" = 1 ] || mkdir -p "$logs"
running=()
trap 'kill -TERM "${running[@]}" 2>/dev/null' TERM INT
for ((index = 0; index < count; index++)); do
    mapfile -t words < <(words_of "$index")
    if [ "${DRY_RUN:-0}" = 1 ]; then
        echo "${words[*]} $* > $logs/process$index.log 2>&1 &"
    else
        env -u DRY_RUN "${words[@]}" "$@" >"$logs/process$index.log" 2>&1 &
        running+=($!)
    fi
done
worst=0
for process in "${running[@]}"; do
    status=0
    while true; do
        wait "$process"
        status=$?
        kill -0 "$process" 2>/dev/null || break
    done
    [ "$status" -gt "$worst" ] && worst=$status
done
exit "$worst"
