#include "cross_entropy.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "../rows/segment_sums.hpp"
#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

thread_local Scratch kept_terms;

struct CrossEntropyPlan {
  CrossEntropyProblem p;
  const StorageKernels* kernels;
  size_t item, length;
  bool far, stream;

  Row Segment(size_t r, size_t s) const {
    const size_t begin = s * length;
    const auto offset = static_cast<ptrdiff_t>(begin * item), row = static_cast<ptrdiff_t>(r);
    return {p.logits + row * p.logits_stride + offset,
            p.gradient == nullptr ? nullptr : p.gradient + row * p.gradient_stride + offset,
            nullptr,
            std::min(length, p.n - begin),
            p.temperature,
            far,
            stream};
  }
  double Logit(size_t r, int64_t c) const {
    double value;
    Gather(p.storage, DType::kFloat64)(
        p.logits + static_cast<ptrdiff_t>(r) * p.logits_stride + c * static_cast<ptrdiff_t>(item), 0, 1,
        reinterpret_cast<char*>(&value));
    return value;
  }
};

// The mean of from - x_c where the kernel's type cannot hold their sum.
double MeanOfLargeDistances(const CrossEntropyPlan& plan, size_t r, double from) {
  constexpr size_t kPiece = 1024;
  const GatherFn load = Gather(plan.p.storage, DType::kFloat64);
  const char* row = plan.p.logits + static_cast<ptrdiff_t>(r) * plan.p.logits_stride;
  double x[kPiece];
  long double sum = 0.0L;
  for (size_t begin = 0; begin < plan.p.n; begin += kPiece) {
    const size_t n = std::min(kPiece, plan.p.n - begin);
    load(row + begin * plan.item, static_cast<ptrdiff_t>(plan.item), n, x);
    for (size_t i = 0; i < n; ++i) sum += static_cast<long double>(from) - static_cast<long double>(x[i]);
  }
  return static_cast<double>(sum / static_cast<long double>(plan.p.n));
}

// The mean of from - x_c; for a row with infinities, the result of arithmetic.
double MeanDistance(const CrossEntropyPlan& plan, size_t r, double from) {
  double sum = 0.0;
  for (size_t begin = 0, s = 0; begin < plan.p.n; begin += plan.length, ++s) {
    sum += plan.kernels->sum_distances(plan.Segment(r, s), from);
  }
  return IsFinite(sum) ? sum / static_cast<double>(plan.p.n) : MeanOfLargeDistances(plan, r, from);
}

void RunRow(const CrossEntropyPlan& plan, size_t r, std::vector<RowSum>* sums) {
  const CrossEntropyProblem& p = plan.p;
  const int64_t target = p.target[r];
  if (target < 0) {
    p.lse[r] = p.log_prob[r] = 0.0;
    if (p.distance != nullptr) p.distance[r] = 0.0;
    if (p.gradient != nullptr)
      std::memset(p.gradient + static_cast<ptrdiff_t>(r) * p.gradient_stride, 0, p.n * plan.item);
    return;
  }
  for (size_t s = 0; s < sums->size(); ++s) (*sums)[s] = plan.kernels->reduce(plan.Segment(r, s));
  const LongSum sum = Combine(*sums, p.temperature, true, *plan.kernels,
                              [&](size_t s) { return plan.kernels->reduce_rest(plan.Segment(r, s), (*sums)[s]); });
  p.lse[r] = LogSumExpOf(sum.total, sum.log_sum, p.temperature);
  const double at_target = plan.Logit(r, target);
  if (p.distance != nullptr) p.distance[r] = MeanDistance(plan, r, at_target);
  const double from_offset = (at_target - sum.total.offset) / p.temperature;
  p.log_prob[r] = IsDegenerate(sum.total) ? std::nan("") : (from_offset - sum.log_sum.hi) - sum.log_sum.lo;
  if (p.gradient == nullptr) return;
  // A weight may be any NaN; the kernels get the one of arithmetic, which survives narrowing.
  const auto plain = [](double v) { return std::isnan(v) ? std::nan("") : v; };
  const double gain = plain(p.gain[r * p.step] + p.lse_gain[r * p.step] * p.lse[r]), add = plain(p.add[r * p.step]);
  for (size_t s = 0; s < sums->size(); ++s) {
    plan.kernels->affine_softmax_map(plan.Segment(r, s), sum.total, gain, add);
  }
  // gain p - target_gain, where the two nearly cancel.
  const double slope = plain(gain * std::expm1(p.log_prob[r]) + (gain - p.target_gain[r * p.step]) + add);
  plan.kernels->store_scalar(
      p.gradient + static_cast<ptrdiff_t>(r) * p.gradient_stride + target * static_cast<ptrdiff_t>(plan.item), slope);
}

// Rows that go by panels.
void RunShortRows(const CrossEntropyPlan& plan, const LossKernels& kernels, size_t begin, size_t end) {
  const CrossEntropyProblem& p = plan.p;
  const auto first = static_cast<ptrdiff_t>(begin);
  if (p.distance != nullptr) {  // before the gradient overwrites the logits
    for (size_t r = begin; r < end; ++r) {
      p.distance[r] = p.target[r] < 0 ? 0.0 : MeanDistance(plan, r, plan.Logit(r, p.target[r]));
    }
  }
  const size_t at = begin * p.step;
  kernels.cross_entropy_rows({p.logits + first * p.logits_stride,
                              p.gradient == nullptr ? nullptr : p.gradient + first * p.gradient_stride, p.logits_stride,
                              p.gradient_stride, end - begin, p.n, p.temperature, p.target + begin, p.lse + begin,
                              p.log_prob + begin, p.gain + at, p.lse_gain + at, p.add + at, p.target_gain + at, p.step,
                              kept_terms.Get(2 * kKept * sizeof(double)), plan.far});
}

}  // namespace

double EstimateNanoseconds(const CrossEntropyProblem& problem) {
  return 2.0 * EstimateNanoseconds(problem.rows, problem.n, problem.storage);
}

void RunCrossEntropyRows(const CrossEntropyProblem& problem, size_t begin, size_t end) {
  const size_t item = ItemSize(problem.storage), bytes = problem.batch * problem.n * item;
  const CrossEntropyPlan plan = {problem,
                                 &KernelsFor(problem.storage),
                                 item,
                                 SegmentLength(problem.storage),
                                 bytes > kFarBytes,
                                 problem.gradient != nullptr && problem.gradient != problem.logits &&
                                     WritesPastCache(problem.batch, problem.n, item)};
  const LossKernels& kernels = LossKernelsFor(problem.storage);
  if (problem.n <= kernels.most) return RunShortRows(plan, kernels, begin, end);
  std::vector<RowSum> sums((problem.n + plan.length - 1) / plan.length);
  for (size_t r = begin; r < end; ++r) RunRow(plan, r, &sums);
}

void Run(const CrossEntropyProblem& problem) {
  if (problem.rows == 0 || problem.n == 0) return;
  ForEachRowBlock(problem.rows, problem.n, EstimateNanoseconds(problem),
                  [&](size_t begin, size_t end) { RunCrossEntropyRows(problem, begin, end); });
}

}  // namespace boltzmax
