#!/usr/bin/env bash
#SBATCH --job-name=rumjax
#SBATCH --array=0-15
#SBATCH --gpus-per-task=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --open-mode=append
#SBATCH --output=rumjax_%A_%a.log
#
# A bank by jobs that need not run at the same time, each with a fixed share; then the run, which makes
# what they have left. The array is numbered from 0; its size is set on the command line, as below.
#
#     bank=$(sbatch --parsable --array=0-63 launch/slurm_array.sh --config=… --workdir=…)
#     sbatch --dependency=afterany:$bank --nodes=1 launch/slurm_nodes.sh --config=… --workdir=…
share=--share=${SLURM_ARRAY_TASK_ID:-0}/${SLURM_ARRAY_TASK_COUNT:-1}
srun "${PYTHON:-python}" -m rumjax.launch "$@" "$share"
status=$?
# Told to stop, two minutes before its time is up: back into the queue.
[ $status = 75 ] && scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
exit $status
