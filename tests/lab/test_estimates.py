"""What a compiler says of memory, recomputation and cycles, read from recorded texts."""

import pytest

from rumjax.ensemble.arranging import recomputed
from rumjax.lab.estimates import (
    CHIPS,
    GIB,
    Memory,
    hbm_of_report,
    most_models,
    refused_bytes,
    step_cycles,
    step_seconds,
)

REPORT = """\
Memory Space: default (color=0)
Total bytes: 924984832 (882.13MiB)
  cumulative_size;       size;       offset; used_by_n_values; shapes_list
  ------------------------------------------------------------
  703.12MiB(100%);  703.12MiB;       229376;                6; f32[35000], pred[], u32[1,1]
Memory Space: (color=1)
Total bytes: 6476288 (6.18MiB)
"""
"""of libtpu 0.0.50 for v5e, shortened"""

MODULE = """\
HloModule jit__fun, is_scheduled=true

%wide.region_3.12_spmd.sunk (wide.param.1: (s32[], f32[128])) -> (s32[], f32[128]) {
  %fusion.187 = f32[]{:T(128)} fusion(%get-tuple-element.1695, %mul.753), kind=kLoop, \
calls=%fused_computation.99, backend_config={"estimated_cycles":"1825"}
  %while.7 = (s32[], u8[128,32,32,3]) while(%tuple.11), condition=%cond.2, body=%crop.3, \
backend_config={"known_trip_count":{"n":"128"}}
  ROOT %fusion.182.remat2 = s32[128]{0:T(128)S(1)} fusion(%fusion.187.remat), kind=kLoop, \
backend_config={"estimated_cycles":"1000"}
}

%crop.3 (param.4: (s32[], u8[128,32,32,3])) -> (s32[], u8[128,32,32,3]) {
  %fusion.5 = u8[1,32,32,3]{3,2,1,0} fusion(%param.4), backend_config={"estimated_cycles":"10"}
}

%shuffle.4 (param.5: s32[]) -> s32[] {
  %sort.5 = s32[] sort(%param.5), backend_config={"estimated_cycles":"999999"}
}

%region_1.14_spmd.clone (param.6: (s32[], f32[128])) -> (s32[], f32[128]) {
  %call.1 = s32[] call(%param.6), to_apply=%shuffle.4
  %while.8 = (s32[], f32[128]) while(%tuple.209), condition=%less, \
body=%wide.region_3.12_spmd.sunk, metadata={op_name="jit(_fun)/while"}
}

%models (param.8: (s32[], f32[128])) -> (s32[], f32[128]) {
  ROOT %conditional.1 = (s32[], f32[128]) conditional(%goes, %tuple.210, %tuple.211), \
branch_computations={%region_0.1_spmd, %region_1.14_spmd.clone}
}

ENTRY %main.1_spmd (param.9: f32[128]) -> f32[128] {
  %while.9 = (s32[], f32[128]) while(%tuple.3), condition=%fewer, body=%models
}
"""
"""in the form of libtpu 0.0.50: models in turn, a choice, steps, and a loop over images in each"""


def test_memory_is_that_of_hbm_alone():
    assert hbm_of_report(REPORT) == 924_984_832
    with pytest.raises(ValueError, match="no total"):
        hbm_of_report("")


def test_instructions_that_are_computed_again_are_counted_and_not_those_that_use_them():
    assert recomputed(MODULE) == 1


def test_a_step_is_the_innermost_loop_of_unknown_length_with_the_loops_inside_it():
    assert step_cycles(MODULE) == 1825 + 1000 + 128 * 10
    assert step_cycles("ENTRY %main (a: f32[]) -> f32[] {\n}\n") is None


def test_a_program_that_is_refused_says_what_it_would_have_needed():
    message = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (18.64G) exceeds available HBM (15.75G)"
    )
    assert refused_bytes(message) == int(18.64 * GIB)
    assert refused_bytes("RESOURCE_EXHAUSTED: otherwise") == 0
    assert refused_bytes("INVALID_ARGUMENT: otherwise") is None


def test_as_many_models_as_fit_without_recomputing():
    one, two = Memory(3, 0), Memory(5, 0)
    assert most_models(one, two, 12, needed=16) == 5
    assert most_models(one, two, 12, needed=4) == 4
    assert most_models(one, two, None, needed=7) == 7
    assert most_models(one, two._replace(recomputed=2), 12, needed=16) == 1
    assert most_models(one, two, 2, needed=16) == 0
    assert not Memory(1, 0, refused=True).fits(None)


def test_times_are_between_roofline_and_cycles_and_none_where_nothing_is_known():
    chip = CHIPS["v5e"]
    step = {"flops": 1e12, "transferred": 8.19e9, "cycles": 11_420_000}
    assert step_seconds(chip, **step) == pytest.approx((11.42e6 / 1.5e9, 0.01))
    assert not [name for name in step if step_seconds(chip, **step | {name: None}) is not None]
    assert step_seconds(CHIPS["h100"], **step) is None
