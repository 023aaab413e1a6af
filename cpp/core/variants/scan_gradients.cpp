// A sum over the elements up to i, or over those of the window around i, is s_i exp(m_i) with the maximum m_i of the
// same elements. So the gradient of its logarithm is
//
//     dx_j = sum_i dy_i exp(x_j - log(s_i exp(m_i))) = sum_i (dy_i / s_i) exp(x_j - m_i)
//
// over the i whose sums have j: those from j on, or those of the window around j. That is a sum of the same kind, of
// weighted exponentials of -m_i. No logarithm is rounded, and no score is measured from a maximum of elements that its
// sum does not have: so the error, some 4 ULP of the sum of absolute values, does not grow with the range of a row, but
// for terms exp(d) that are small themselves, whose relative error is that of d.
//
// The windowed softmax p_i = exp(x_i) / (s_i exp(m_i)) has the gradient dy_j p_j - sum_i (dy_i p_i / s_i) exp(x_j - m_i).
#include "scan_gradients.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// exp(a - b); 1 for the same infinity.
double ExpOfDifference(double a, double b) { return a == b ? 1.0 : std::exp(a - b); }

// A sum of weighted exponentials, (hi + lo) exp(unit).
struct ScaledSum {
  double unit = -kInfinity, hi = 0.0, lo = 0.0;

  double Value() const { return hi + lo; }

  // Adds value exp(u).
  void Add(double value, double u) {
    if (value == 0.0 || (u == -kInfinity && !std::isnan(value))) return;
    if (u > unit) {
      const double factor = ExpOfDifference(unit, u);
      hi *= factor;
      lo *= factor;
      unit = u;
    }
    const double term = value * ExpOfDifference(u, unit);
    const double sum = hi + term, rest = sum - hi;
    lo += (hi - (sum - rest)) + (term - rest);  // Knuth's sum of two numbers
    hi = sum;
  }
  void Add(const ScaledSum& other) { Add(other.Value(), other.unit); }
};

// Calls emit(i, sum) for every element of a row, with the sum of the elements of its window. add(i, &sum) adds one.
//
// The row is divided into blocks of 2 half elements, so that a window is a suffix of one plus a prefix of the next (van
// Herk, Pattern Recognition Letters 13(7), 1992; Gil & Werman, IEEE PAMI 15(5), 1993).
template <class AddElement, class Emit>
void ForEachWindow(size_t n, size_t half, std::vector<ScaledSum>& suffixes, AddElement add, Emit emit) {
  if (half == 0) {
    for (size_t i = 0; i < n; ++i) {
      ScaledSum sum;
      add(i, &sum);
      emit(i, sum);
    }
    return;
  }
  const size_t length = 2 * half, end = n + half;
  suffixes.assign(length, {});
  for (size_t begin = 0; begin < end; begin += length) {
    ScaledSum prefix, suffix;
    for (size_t k = 0; k < std::min(length, end - begin); ++k) {
      const size_t last = begin + k;
      if (last < n) add(last, &prefix);
      if (last < half) continue;
      ScaledSum sum = prefix;
      sum.Add(suffixes[k]);
      emit(last - half, sum);
    }
    for (size_t k = length; k-- > 0;) {
      if (begin + k < n) add(begin + k, &suffix);
      suffixes[k] = suffix;
    }
  }
}

// The gradient of one row after another; memory is kept from row to row.
class RowGradient {
 public:
  explicit RowGradient(const ScanGradientProblem& p) : p_(p), half_(std::min(p.half, p.n - 1)), maxima_(p.n) {
    weights_.resize(p.n);
  }

  void Run(size_t r) {
    dy_ = p_.dy + r * p_.n;
    x_ = p_.x + r * p_.n;
    dx_ = p_.dx + r * p_.n;
    p_.scan == Scan::kRunningLogSumExp ? RunRunning() : RunWindowed();
  }

 private:
  void RunRunning() {
    ScaledSum sum;
    for (size_t i = 0; i < p_.n; ++i) {
      sum.Add(1.0, x_[i]);
      KeepWeight(i, sum, dy_[i]);
    }
    sum = {};
    for (size_t j = p_.n; j-- > 0;) {
      sum.Add(weights_[j], -maxima_[j]);
      dx_[j] = Shares(j, sum);
    }
  }

  void RunWindowed() {
    const bool is_softmax = p_.scan == Scan::kWindowedSoftmax;
    ForEachWindow(
        p_.n, half_, suffixes_, [&](size_t j, ScaledSum* sum) { sum->Add(1.0, x_[j]); },
        [&](size_t i, const ScaledSum& sum) {
          // NaN if the maximum is infinite, as the result itself.
          const double share = std::exp(x_[i] - sum.unit) / sum.Value() + 0.0 * sum.unit;
          const double p = x_[i] == -kInfinity ? 0.0 : share;
          dx_[i] = p == 0.0 ? 0.0 : dy_[i] * p;  // dy of an element that is always 0 may be NaN
          KeepWeight(i, sum, is_softmax ? dx_[i] : dy_[i]);
        });
    ForEachWindow(
        p_.n, half_, suffixes_, [&](size_t i, ScaledSum* sum) { sum->Add(weights_[i], -maxima_[i]); },
        [&](size_t j, const ScaledSum& sum) { dx_[j] = is_softmax ? dx_[j] - Shares(j, sum) : Shares(j, sum); });
  }

  // Keeps m_i and the quotient by s_i; a sum of nothing depends on nothing.
  void KeepWeight(size_t i, const ScaledSum& sum, double numerator) {
    const double s = sum.Value();
    maxima_[i] = sum.unit;
    weights_[i] = s == 0.0 ? 0.0 : numerator / s;
  }

  double Shares(size_t j, const ScaledSum& sum) const {
    return x_[j] == -kInfinity ? 0.0 : std::exp(x_[j] + sum.unit) * sum.Value();
  }

  const ScanGradientProblem& p_;
  const size_t half_;
  const double* dy_ = nullptr;
  const double* x_ = nullptr;
  double* dx_ = nullptr;
  std::vector<double> maxima_, weights_;
  std::vector<ScaledSum> suffixes_;
};

}  // namespace

void Run(const ScanGradientProblem& p) {
  if (p.rows == 0 || p.n == 0) return;
  constexpr double kCost = 40.0;  // the time for an element, in softmax's
  ForEachRowBlock(p.rows, p.n, kCost * EstimateNanoseconds(p.rows, p.n, DType::kFloat64),
                  [&](size_t begin, size_t end) {
                    RowGradient gradient(p);
                    for (size_t r = begin; r < end; ++r) gradient.Run(r);
                  });
}

}  // namespace boltzmax
