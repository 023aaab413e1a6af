// Rows of any layout: packed into a buffer, run, and unpacked into the result.
#pragma once

#include "../runtime/convert.hpp"
#include "row_plan.hpp"

namespace boltzmax {

// Packs elements [begin, begin + n) of the row at `at`, and their mask, as contiguous storage; and unpacks them.
struct Packer {
  // The calling thread's buffers for `count` elements. The mask is null if there is none.
  char* Elements(size_t count) const {
    thread_local Scratch packed;
    return packed.Get(count * plan.YSize());
  }
  uint8_t* Mask(size_t count) const {
    thread_local Scratch packed_mask;
    return plan.masked ? reinterpret_cast<uint8_t*>(packed_mask.Get(count)) : nullptr;
  }

  const RowPlan& plan;
  GatherFn gather = Gather(plan.p.input, plan.p.storage);
  ScatterFn scatter = Scatter(plan.p.storage);

  void Pack(const Offsets& at, size_t begin, size_t n, char* x, uint8_t* mask) const {
    GatherLine(gather, plan.p.inner, kX, plan.p.x + at[kX], begin, n, plan.YSize(), x);
    if (mask == nullptr) return;
    static const GatherFn copy = Gather(DType::kBool, DType::kBool);
    GatherLine(copy, plan.p.inner, kMask, plan.p.mask + at[kMask], begin, n, 1, mask);
  }
  void Unpack(const char* from, size_t begin, size_t n, const Offsets& at) const {
    ScatterLine(scatter, plan.p.inner, kY, plan.p.y + at[kY], begin, n, plan.YSize(), from);
  }
};

// Rows [begin, end), in batches.
void RunPackedRows(const RowPlan& plan, size_t begin, size_t end);

}  // namespace boltzmax
