#!/usr/bin/env bash
#SBATCH --job-name=rumjax
#SBATCH --array=0-15
#SBATCH --gpus-per-task=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
#SBATCH --output=rumjax_%A_%a.log
#
# A bank by an array of single-GPU jobs, each of which trains a share; array task 0 does the rest.
#
#     sbatch launch/slurm_array.sh --config=cifar100_rum.py --workdir=/shared/cifar100
#
# The jobs need not run at the same time: what one has not done, those that run later do. Two minutes
# before its time is up a job drops what it is at and is put back into the queue. Set the array's size
# on the command line: sbatch --array=0-63 …; its numbers must have no gaps. DRY_RUN=1 (without
# sbatch) prints what a job would do.
set -u
if [ "${DRY_RUN:-0}" = 1 ]; then
    echo "${PYTHON:-python} -m rumjax.launch $*"
    echo "scontrol requeue \$SLURM_ARRAY_JOB_ID_\$SLURM_ARRAY_TASK_ID   # after exit status 75"
    exit 0
fi
"${PYTHON:-python}" -m rumjax.launch "$@" &
run=$!
trap 'kill -TERM "$run" 2>/dev/null' TERM
wait "$run"
status=$?
while kill -0 "$run" 2>/dev/null; do
    wait "$run"
    status=$?
done
if [ $status = 75 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit $status
