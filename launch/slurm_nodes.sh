#!/usr/bin/env bash
#SBATCH --job-name=rumjax
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --open-mode=append
#SBATCH --output=rumjax_%j.log
#
# A bank by several nodes at once: a process on each, which uses all of the node's GPUs.
#
#     sbatch launch/slurm_nodes.sh --config=cifar100_rum.py --workdir=/shared/cifar100
#
# The processes share the directory and nothing else; --no-kill and --kill-on-bad-exit=0 keep the
# others going when a node fails. DRY_RUN=1 (without sbatch) prints what the job would do.
set -u
words=(srun --no-kill --kill-on-bad-exit=0 --label "${PYTHON:-python}" -m rumjax.launch "$@")
if [ "${DRY_RUN:-0}" = 1 ]; then
    echo "${words[*]}"
    echo "scontrol requeue \$SLURM_JOB_ID   # after exit status 75"
    exit 0
fi
"${words[@]}"
status=$?
if [ $status = 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
