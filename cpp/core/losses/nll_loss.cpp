#include "nll_loss.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "../rows/running_sum.hpp"
#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

constexpr size_t kRowsAtOnce = 4096;  // fixed, so that sums have the same bits

template <class T>
T ReadAs(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// An integer of any type; one that is too large is read as the largest. The type is the same for all rows: a
// predictable branch costs less than a call.
int64_t ReadInteger(DType dtype, const char* p) {
  switch (dtype) {
    case DType::kInt64: return ReadAs<int64_t>(p);
    case DType::kInt32: return ReadAs<int32_t>(p);
    case DType::kInt8: return ReadAs<int8_t>(p);
    case DType::kUInt8: return ReadAs<uint8_t>(p);
    case DType::kInt16: return ReadAs<int16_t>(p);
    case DType::kUInt16: return ReadAs<uint16_t>(p);
    case DType::kUInt32: return ReadAs<uint32_t>(p);
    case DType::kUInt64:
      return static_cast<int64_t>(
          std::min<uint64_t>(ReadAs<uint64_t>(p), static_cast<uint64_t>(std::numeric_limits<int64_t>::max())));
    default: throw std::logic_error("targets are integers");
  }
}

// A number of any type, as a double.
double ReadNumber(DType dtype, const char* p) {
  switch (dtype) {
    case DType::kFloat32: return ReadAs<float>(p);
    case DType::kFloat64: return ReadAs<double>(p);
    default: {
      double value;
      Gather(dtype, DType::kFloat64)(p, 0, 1, &value);
      return value;
    }
  }
}

// The result of reading some rows.
struct Found {
  Sum losses = {0.0, 0.0}, weights = {0.0, 0.0};
  bool in_range = true;
};

enum class Row { kCounts, kIgnored, kOutOfRange };

class NllPlan {
 public:
  explicit NllPlan(const NllProblem& p)
      : p_(p),
        rows_(Coalesce(p.rows)),
        item_(ItemSize(p.log_prob.dtype)),
        wide_(p.log_prob.dtype == DType::kFloat64),
        narrow_(Gather(DType::kFloat64, p.log_prob.dtype)) {}

  Found Read(size_t begin, size_t end) const {
    RunningSum losses, weights;
    bool in_range = true;
    ForEachRow(begin, end, [&](size_t r, const Offsets& at) {
      int64_t target;
      const Row row = Classify(at, &target);
      double loss = 0.0;
      if (row == Row::kCounts) {
        const double weight = WeightOf(at, target);
        loss = Loss(weight, ReadNumber(p_.log_prob.dtype, p_.log_prob.at + at[kLogProb] + target * p_.log_prob.stride));
        losses.Add({loss, 0.0});
        weights.Add({weight, 0.0});
      }
      in_range = in_range && row != Row::kOutOfRange;
      if (p_.losses != nullptr) StoreLoss(r, loss);
    });
    return {losses.Parts(), weights.Parts(), in_range};
  }

  void WriteGradient(size_t begin, size_t end, double divisor) const {
    ForEachRow(begin, end, [&](size_t, const Offsets& at) {
      char* gradient = p_.gradient + at[kLogProbGradient];
      Clear(gradient);
      int64_t target;
      if (Classify(at, &target) != Row::kCounts) return;
      const double slope = 0.0 - WeightOf(at, target) / divisor;
      double narrowed;
      narrow_(reinterpret_cast<const char*>(&slope), 0, 1, &narrowed);
      std::memcpy(gradient + target * p_.gradient_stride, &narrowed, item_);
    });
  }

 private:
  template <class F>
  void ForEachRow(size_t begin, size_t end, F f) const {
    ForEachRun(rows_, begin, end, [&](Offsets at, size_t run, const Offsets& stride, size_t done) {
      for (size_t i = 0; i < run; ++i) {
        f(begin + done + i, at);
        for (size_t k = 0; k < kOperands; ++k) at[k] += stride[k];
      }
    });
  }

  Row Classify(const Offsets& at, int64_t* target) const {
    *target = ReadInteger(p_.target.dtype, p_.target.at + at[kTarget]);
    if (*target == p_.ignore_index) return Row::kIgnored;
    return *target >= 0 && *target < static_cast<int64_t>(p_.classes) ? Row::kCounts : Row::kOutOfRange;
  }

  double WeightOf(const Offsets& at, int64_t target) const {
    double weight = 1.0;
    if (p_.weight.at != nullptr) weight = ReadNumber(p_.weight.dtype, p_.weight.at + target * p_.weight.stride);
    if (p_.sample_weight.at != nullptr) {
      weight *= ReadNumber(p_.sample_weight.dtype, p_.sample_weight.at + at[kSampleWeight]);
    }
    return weight;
  }

  // An infinite loss of weight 0 counts as 0; NaN stays NaN.
  static double Loss(double weight, double log_prob) {
    return weight == 0.0 && std::isinf(log_prob) ? 0.0 : weight * (0.0 - log_prob);
  }

  void StoreLoss(size_t r, double loss) const {
    if (wide_) reinterpret_cast<double*>(p_.losses)[r] = loss;
    else reinterpret_cast<float*>(p_.losses)[r] = static_cast<float>(loss);
  }

  void Clear(char* row) const {
    if (p_.gradient_stride == static_cast<ptrdiff_t>(item_)) {
      std::memset(row, 0, p_.classes * item_);
      return;
    }
    for (size_t c = 0; c < p_.classes; ++c) std::memset(row + static_cast<ptrdiff_t>(c) * p_.gradient_stride, 0, item_);
  }

  const NllProblem& p_;
  Axes rows_;
  size_t item_;
  bool wide_;
  GatherFn narrow_;
};

}  // namespace

double EstimateNanoseconds(const NllProblem& problem) {
  constexpr double kRow = 10.0, kByte = 0.05;
  const auto rows = static_cast<double>(CountElements(problem.rows));
  if (problem.gradient == nullptr) return kRow * rows;
  return rows * (2 * kRow + kByte * static_cast<double>(problem.classes * ItemSize(problem.log_prob.dtype)));
}

bool Run(const NllProblem& problem, double* loss) {
  const NllPlan plan(problem);
  const size_t rows = CountElements(problem.rows), blocks = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
  const double cost = EstimateNanoseconds(problem);
  std::vector<Found> found(blocks);
  ParallelFor(blocks, cost,
              [&](size_t b) { found[b] = plan.Read(b * kRowsAtOnce, std::min(rows, (b + 1) * kRowsAtOnce)); });
  RunningSum losses, weights;
  for (const Found& part : found) {
    if (!part.in_range) return false;
    losses.Add(part.losses);
    weights.Add(part.weights);
  }
  const double total = problem.mean ? weights.Total() : 1.0;
  const bool is_zero = total == 0.0 && problem.zero_if_empty;
  const double divisor = is_zero ? std::numeric_limits<double>::infinity() : total;  // makes slopes 0
  *loss = is_zero ? 0.0 : losses.Total() / divisor;
  if (problem.gradient != nullptr) {
    ForEachRowBlock(rows, problem.classes, cost,
                    [&](size_t begin, size_t end) { plan.WriteGradient(begin, end, divisor); });
  }
  return true;
}

}  // namespace boltzmax
