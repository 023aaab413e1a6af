#include "exact_totals.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../runtime/exact_total_table.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

constexpr size_t kPart = 65536;  // the most elements of a kernel's call
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <class T>
const ExactTotalKernels<T>& Kernels() {
  if constexpr (sizeof(T) == sizeof(float)) return ActiveExactTotals().f32;
  else return ActiveExactTotals().f64;
}

// Calls f(row, begin, count) for parts of rows that one kernel takes.
template <class F>
void ForEachPart(const RowParts& p, F f) {
  const size_t parts = (p.n + kPart - 1) / kPart, tasks = p.rows * parts;
  if (tasks == 0) return;
  const double cost = 4.0 * EstimateNanoseconds(p.rows, p.n, DType::kFloat64);
  const size_t least = std::max<size_t>(1, kTaskElements / std::min(p.n, kPart));
  ParallelBlocks(tasks, least, cost, [&](size_t begin, size_t end) {
    for (size_t task = begin; task < end; ++task) {
      const size_t row = task / parts, first = task % parts * kPart;
      f(task, row, first, std::min(kPart, p.n - first));
    }
  });
}

template <class T>
const T* RowOf(const RowParts& p, size_t row) {
  return reinterpret_cast<const T*>(p.x + static_cast<ptrdiff_t>(row) * p.stride);
}

template <class T>
void AddWith(const RowParts& p, int64_t first, RowTotal* totals) {
  const size_t parts = (p.n + kPart - 1) / kPart;
  std::vector<RowTotal> found(p.rows * parts);
  ForEachPart(p, [&](size_t task, size_t row, size_t begin, size_t count) {
    Kernels<T>().total(RowOf<T>(p, row) + begin, count, p.temperature, &found[task]);
    found[task].argmax += first + static_cast<int64_t>(begin);
  });
  for (size_t task = 0; task < found.size(); ++task) Merge(&totals[task / parts], found[task], p.temperature);
}

template <class T>
void MapWith(const RowParts& p, const double* max, const double* log_sum, const double* sum, bool wants_log, T* y) {
  ForEachPart(p, [&](size_t, size_t row, size_t begin, size_t count) {
    const TotalMap map = {max[row], p.temperature, sum[row], log_sum[row]};
    const auto kernel = wants_log ? Kernels<T>().log_softmax : Kernels<T>().softmax;
    kernel(RowOf<T>(p, row) + begin, count, map, y + row * p.n + begin);
  });
}

// The sum over 2^(32 unit). Digits are carried into each other here only.
void RoundDigits(const ExactSum& sum, double* high, double* low) {
  *high = *low = 0.0;
  if (sum.unit == kNoUnit) return;
  constexpr double kWeight = 0x1p-32;
  constexpr int64_t kMask = (int64_t{1} << kDigitBits) - 1;
  double part[kExactDigits + 1];
  int64_t carry = 0;
  double weight = 0x1p-96;
  for (size_t j = kExactDigits; j-- > 0;) {
    const int64_t digit = sum.digit[j] + carry;
    carry = digit >> kDigitBits;
    part[j + 1] = static_cast<double>(digit & kMask) * weight;
    weight /= kWeight;
  }
  part[0] = static_cast<double>(carry) * 0x1p32;
  for (const double number : part) {  // Knuth's sum of two numbers
    const double total = *high + number, rest = total - *high;
    *low += (*high - (total - rest)) + (number - rest);
    *high = total;
  }
  const double total = *high + *low;
  *low -= total - *high;
  *high = total;
}

// A maximum that has been passed joins the other terms.
void Demote(RowTotal* total, double temperature) {
  const ExactTerm term = ActiveExactTotals().term(total->max, temperature);
  if (term.mantissa != 0.0) AddTo(&total->rest, ExactSumOf(term.mantissa, term.exponent), total->count);
  total->count = 0;
}

int ToInt(int64_t exponent) { return static_cast<int>(std::clamp<int64_t>(exponent, -5000, 5000)); }

}  // namespace

void Merge(RowTotal* total, const RowTotal& other, double temperature) {
  if (other.count == 0 && !std::isnan(other.max)) return;
  if (std::isnan(total->max) || std::isnan(other.max)) {
    *total = kNoTotal;
    total->max = kNan;
    return;
  }
  if (total->count == 0) {
    *total = other;
    return;
  }
  RowTotal less = other;
  if (less.max > total->max) std::swap(less, *total);
  if (less.max < total->max) {
    Demote(&less, temperature);
  } else {
    total->argmax = std::min(total->argmax, less.argmax);
  }
  total->count += less.count;
  AddTo(&total->rest, less.rest);
}

void AddParts(const RowParts& parts, int64_t first, RowTotal* totals) {
  if (parts.storage == DType::kFloat64) AddWith<double>(parts, first, totals);
  else AddWith<float>(parts, first, totals);
}

void Finish(const RowTotal* totals, size_t rows, double temperature, double* log_sum, double* sum) {
  for (size_t r = 0; r < rows; ++r) {
    const RowTotal& total = totals[r];
    if (!std::isfinite(total.max)) {
      log_sum[r] = sum[r] = kNan;
      continue;
    }
    double rest = 0.0, low;
    const ExactTerm top = ActiveExactTotals().term(total.max, temperature);
    if (top.mantissa != 0.0) {
      RoundDigits(total.rest, &rest, &low);
      const int64_t exponent = total.rest.unit == kNoUnit ? 0 : total.rest.unit * kDigitBits - top.exponent;
      rest = std::ldexp(rest / top.mantissa, ToInt(exponent));
    }
    const double others = static_cast<double>(total.count - 1) + rest;
    sum[r] = 1.0 + others;
    log_sum[r] = std::log1p(others);
  }
}

void MapParts(const RowParts& parts, const double* max, const double* log_sum, const double* sum, bool wants_log,
              char* y) {
  if (parts.storage == DType::kFloat64) {
    MapWith(parts, max, log_sum, sum, wants_log, reinterpret_cast<double*>(y));
  } else {
    MapWith(parts, max, log_sum, sum, wants_log, reinterpret_cast<float*>(y));
  }
}

void AddNumbers(const double* x, size_t rows, size_t n, SignedSum* sums) {
  const double cost = 6.0 * static_cast<double>(rows) * static_cast<double>(n);
  ForEachRowBlock(rows, n, cost, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      for (size_t i = 0; i < n; ++i) {
        const double number = x[r * n + i];
        if (!std::isfinite(number)) {
          sums[r].special += number;
        } else if (number != 0.0) {
          int exponent;
          const double mantissa = std::frexp(number, &exponent);
          AddTo(&sums[r].finite, ExactSumOf(mantissa, exponent));
        }
      }
    }
  });
}

void Merge(SignedSum* sum, const SignedSum& other) {
  AddTo(&sum->finite, other.finite);
  sum->special += other.special;
}

void Round(const SignedSum& sum, double* high, double* low) {
  RoundDigits(sum.finite, high, low);
  const int exponent = sum.finite.unit == kNoUnit ? 0 : ToInt(sum.finite.unit * kDigitBits);
  *high = std::ldexp(*high, exponent) + sum.special;
  *low = std::isfinite(*high) ? std::ldexp(*low, exponent) : 0.0;
}

}  // namespace boltzmax
