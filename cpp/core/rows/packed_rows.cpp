#include "packed_rows.hpp"

#include <algorithm>
#include <vector>

namespace boltzmax {

void RunPackedRows(const RowPlan& plan, size_t begin, size_t end) {
  const size_t n = plan.n, item = plan.YSize();
  const size_t batch = std::clamp<size_t>(kPackElements / std::max<size_t>(n, 1), 1, end - begin);
  const Packer packer = {plan};
  char* x = packer.Elements(batch * n + batch);
  char* results = plan.Reduces() ? x + batch * n * item : x;
  uint8_t* mask = packer.Mask(batch * n);
  void* scratch = ExponentialsFor(plan);
  std::vector<double> temperatures(batch, 1.0);
  const auto row_bytes = static_cast<ptrdiff_t>(n * item), item_bytes = static_cast<ptrdiff_t>(item);
  for (size_t first = begin; first < end; first += batch) {
    const size_t rows = std::min(batch, end - first);
    for (size_t r = 0; r < rows; ++r) {
      const Offsets at = OffsetsAt(plan.p.outer, first + r);
      packer.Pack(at, 0, n, x + r * n * item, mask == nullptr ? nullptr : mask + r * n);
      temperatures[r] = plan.TemperatureAt(at);
    }
    plan.Kernels().rows({x, results, mask, temperatures.data(), row_bytes, plan.Reduces() ? item_bytes : row_bytes,
                         static_cast<ptrdiff_t>(n), sizeof(double), rows, n, scratch, plan.scaled, false, false});
    for (size_t r = 0; r < rows; ++r) {
      const Offsets at = OffsetsAt(plan.p.outer, first + r);
      if (plan.Reduces()) {
        packer.scatter(results + r * item, 1, plan.p.y + at[kY], 0);
      } else {
        packer.Unpack(x + r * n * item, 0, n, at);
      }
    }
  }
}

}  // namespace boltzmax
