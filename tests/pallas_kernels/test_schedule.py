"""Reading schedules: grids, loops inside them, and loops that cannot be read.

Lines as libtpu 0.0.52 writes them, shortened.
"""

import pytest

from pallas_kernels.ahead_of_time.schedule import UnreadError, schedule

# What is before and after the loop is not marked, and 8 steps end at 10.
GRID = """
     0   :  { %s1 = inlined_call_operand.hbm [shape: f32[8,128]] }
   0x1   :  { %7 = vsyncpa [#allocation4], 0  ;;  %s4_s9 = smov.u32 0 }
   0x9 LB: > { %s6 = sadd.s32 -1, %s5 /* iteration index, stage = 1 */ \
 ;;  %s5 = sphi %s4_s9, %s8 /* phi copy :: iteration index, stage = 0 */ }
   0xa   : > { %s12 = sadd.s32 1, %s5 /* iteration index, stage = 0 */ }
   0xb   : > { %v1 = vld [vmem:[%s3 + $0x68] sm:$0xff] }
   0x34  : > {} /* End region 26 */
@
 0x3b3 PF: > { %p1 = scmp.ge.s32.totalorder %s5, 2 }
 0x3b9   : > { %p7 = scmp.ge.s32.totalorder %s12, 10 /* loop exit test */ \
 ;;  %s8 = smov.u32 %s12 /* copy for cssa :: iteration index, stage = 0 */ }
 0x3bb   :  { %20 = sbr.rel (!%p7) target = $region86 }
""".replace("\\\n", "")
# 9 trips of 3 to 30 by 3s, 4 bundles: one is of the code around.
LOOP = """
  0x40   : > { %s30 = smov.u32 3 /* copy for cssa */ }
  0x41 LB: >> { %v2 = vmul.f32 1.5, %v1  ;;  %s31 = sphi %s30, %s32 /* phi */ }
  0x42   : >> { %s32 = sadd.s32 3, %s31 /* copy for cssa */ }
  0x43   : > { %p8 = scmp.ge.s32.totalorder %s32, 30 /* loop exit test */ }
  0x44   : >> { %v3 = vadd.f32 %v2, %v2 }
  0x45   : > { %139 = sbr.rel (!%p8) target = $region76 }
"""
# 5 trips of 2 bundles around 7 trips of 2.
NEST = """
  0x50   : > { %s40 = smov.u32 0 /* copy for cssa */ }
  0x51 LB: >> { %s41 = sphi %s40, %s44 /* phi copy */  ;;  %s42 = smov.u32 0 }
  0x52 LB: >>> { %s43 = sphi %s42, %s45 /* phi copy */  ;;  %v4 = vmov %v3 }
  0x53   : >>> { %s45 = sadd.s32 1, %s43 \
 ;;  %s44 = sadd.s32 (%p9), 1, %s41 \
 ;;  %p9 = scmp.ge.s32.totalorder %s45, 7 /* loop exit test */ }
  0x54   : >> { %p1 = scmp.ge.s32.totalorder (%p9), %s44, 5 /* loop exit test \
*/ }
""".replace("\\\n", "")
# Its bound is the step of the grid, and there is no number to compare with.
DYNAMIC = """
  0x60   : > { %s50 = smov.u32 0 /* copy for cssa */ }
  0x61 LB: >> { %s51 = sphi %s50, %s52 /* phi copy */ }
  0x62   : >> { %s52 = sadd.s32 1, %s51 }
  0x63   : >> { %p11 = scmp.ge.s32.totalorder %s52, %s5 }
"""
# A grid of one step: nothing is marked but what is in loops.
ONE = """
     0   :  { %6 = vsyncpa [#allocation4], 0 }
   0x1   :  { %18 = dma.hbm_to_vmem [thread:$0]  /*hbm=*/%s14 /*
iteration_bounds: (1)
second_minor_factor: 1 */ }
   0x2   :  {}
   0x3   :  { %24 = vst [vmem:[#allocation6] sm:$0xff] %v23 }
"""


def shallower(text):
  return text.replace(": >", ": ")


def test_the_cycles_of_a_step_are_the_bundles_of_the_grid_s_loop():
  assert schedule(GRID.replace("@", "")) == (6, 8)


def test_without_a_pipeline_the_grid_runs_as_often_as_it_says():
  text = GRID.replace("@", "").replace("stage = 1", "stage = 0")
  assert schedule(text) == (6, 10)


def test_a_counter_that_is_spilled_is_followed():
  text = GRID.replace("@", "").replace(
    "%s12 = sadd.s32 1, %s5 ",
    "%9 = sst [smem:[#allocation7_spill]] %s5  ;;  "
    "%s9 = sld [smem:[#allocation7_spill]]  ;;  %s12 = sadd.s32 1, %s9 ",
  )
  assert schedule(text) == (6, 8)
  twice = "%8 = sst [smem:[#allocation7_spill]] %s1  ;;  %s9 = sld"
  direct = text.replace("%s8 = smov.u32 %s12", "%s8 = smov.u32 %s7")
  assert schedule(text.replace("%s9 = sld", twice)) == (6, 8)
  with pytest.raises(UnreadError):
    schedule(direct.replace("%s9 = sld", twice))


@pytest.mark.parametrize(
  ("inside", "cycles"),
  [
    (LOOP, 1 + 9 * 4 + 1),
    (NEST, 1 + 5 * (2 + 7 * 2)),
    (LOOP + NEST, 1 + 9 * 4 + 1 + 1 + 5 * (2 + 7 * 2)),
  ],
)
def test_loops_inside_count_as_often_as_they_run(inside, cycles):
  """Their exit tests are not the grid's, wherever they stand."""
  assert schedule(GRID.replace("@", inside)) == (6 + cycles, 8)
  assert schedule(ONE + shallower(inside)) == (3 + cycles, 1)


def test_a_grid_of_one_step_costs_what_its_bundles_do():
  assert schedule(ONE) == (3, 1)


@pytest.mark.parametrize("around", [GRID, ONE + "@"])
def test_a_loop_without_a_number_of_trips_is_not_guessed_at(around):
  inside = DYNAMIC if around == GRID else shallower(DYNAMIC)
  with pytest.raises(UnreadError, match="bounds that are Python numbers"):
    schedule(around.replace("@", inside))
