#!/usr/bin/env bash
# A run on a Cloud TPU VM or a slice of a pod, which may be a preemptible one.
#
#     NAME=rum ZONE=us-central2-b TYPE=v4-32 launch/tpu_vm.sh --config=cifar100_rum.py \
#         --workdir=gs://BUCKET/cifar100
#
# NAME, ZONE, TYPE   of the TPU, see `gcloud compute tpus accelerator-types list`
# VERSION            of its software (tpu-ubuntu2204-base)
# SPOT=1             preemptible: cheaper, and made anew when it has been taken away
# SOURCE             what pip installs there: a Git address, or a wheel's (git+https://…)
# HOSTS              of a pod slice (1): the first does the run, all work for it, on their own chips
# DRY_RUN=1          prints what it would do
#
# The work directory must outlive the machine: a bucket, or a disk that all hosts mount. The loop ends
# when the run is done or fails in a way that starting again cannot mend; then the TPU is deleted.
set -u
: "${NAME:?name of the TPU}" "${ZONE:?its zone}" "${TYPE:?its accelerator type}"
: "${SOURCE:?what pip installs: a Git address or a wheel}"
gcloud=(gcloud compute tpus tpu-vm)
create=("${gcloud[@]}" create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE"
    --version="${VERSION:-tpu-ubuntu2204-base}")
[ "${SPOT:-0}" = 1 ] && create+=(--spot)
ssh=("${gcloud[@]}" ssh "$NAME" --zone="$ZONE" --worker=all)
install="pip install -U 'rumjax[tpu,gcs,cluster] @ $SOURCE'"
run="PATH=\$HOME/.local/bin:\$PATH python3 -m rumjax.launch $*"
I="\$(curl -s -H Metadata-Flavor:Google http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number)"
[ "${HOSTS:-1}" -gt 1 ] && run+=" --process=$I --processes=$HOSTS"
delete=("${gcloud[@]}" delete "$NAME" --zone="$ZONE" --quiet)
state() { "${gcloud[@]}" describe "$NAME" --zone="$ZONE" --format='value(state)' 2>/dev/null; }
if [ "${DRY_RUN:-0}" = 1 ]; then
    echo "${create[*]}"
    echo "${ssh[*]} --command=$install"
    echo "${ssh[*]} --command=$run"
    echo "${delete[*]}"
    exit 0
fi
while true; do
    if [ "$(state)" != READY ]; then
        [ -n "$(state)" ] && "${delete[@]}"
        if ! "${create[@]}" || ! "${ssh[@]}" --command="$install"; then
            echo "no TPU yet; trying again in ${PAUSE:-60} s" >&2
            sleep "${PAUSE:-60}"
            continue
        fi
    fi
    "${ssh[@]}" --command="$run"
    status=$?
    # A run is done, though a model may have diverged (4). What is left of a run on a machine that is
    # still there will not get better by itself.
    if [ $status = 0 ] || [ $status = 4 ] || { { [ $status = 1 ] || [ $status = 2 ]; } && [ "$(state)" = READY ]; }; then
        "${delete[@]}"
        exit $status
    fi
    echo "the run ended with status $status; starting again in ${PAUSE:-60} s" >&2
    sleep "${PAUSE:-60}"
done
