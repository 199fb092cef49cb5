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
# A run by several nodes at once, each of which uses all of its GPUs; on one node, the run alone.
#
#     sbatch launch/slurm_nodes.sh --config=cifar100_rum.py --workdir=/shared/cifar100
#
# The first is scheduler, worker and run, the others are workers. When a node fails, the others go on.
srun --no-kill --kill-on-bad-exit=0 --label "${PYTHON:-python}" -m rumjax.launch "$@"
status=$?
# Told to stop, two minutes before its time is up, or the first node is lost: back into the queue.
[ $status = 75 ] && scontrol requeue "$SLURM_JOB_ID"
exit $status
