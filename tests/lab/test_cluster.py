"""Which of how many processes this one is, by arguments or by the scheduler's variables."""

import pytest

from rumjax.errors import InvalidInputError
from rumjax.lab.cluster import ALONE, Process, find_process

ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, ALONE),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "8"}, Process(2, 8)),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "3"}, Process(0, 3)),
        ({"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, Process(1, 2)),
        ({"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"}, ALONE),
        ({"JOB_COMPLETION_INDEX": "3", "RUMJAX_PROCESSES": "5"}, Process(3, 5)),
        ({"JOB_COMPLETION_INDEX": "3"}, ALONE),
        # Tasks of an array are no such processes.
        (ARRAY, ALONE),
        (ARRAY | {"SLURM_PROCID": "1", "SLURM_NTASKS": "3"}, Process(1, 3)),
    ],
)
def test_schedulers_are_asked(environ, wanted):
    assert find_process(environ=environ) == wanted


def test_given_numbers_win():
    assert find_process(1, 2, {"SLURM_PROCID": "2", "SLURM_NTASKS": "8"}) == Process(1, 2)


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        ((1, None), {}, "give both or neither"),
        ((None, 2), {}, "give both or neither"),
        ((2, 2), {}, "process 2 of 2; wanted 0 to 1"),
        ((-1, 2), {}, "process -1 of 2"),
        ((0, 0), {}, "process 0 of 0"),
        ((), {"SLURM_PROCID": "x", "SLURM_NTASKS": "2"}, "SLURM_PROCID: wanted a whole number"),
        ((), {"SLURM_PROCID": "4", "SLURM_NTASKS": "2"}, "SLURM: process 4 of 2"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(arguments, environ, message):
    with pytest.raises(InvalidInputError, match=message):
        find_process(*arguments, environ=environ)
