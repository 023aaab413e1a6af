// The classes of a row whose scores are at most a threshold: those from some value on, the border. The search does not
// sort the row. Pivots near the border, found in a sample, divide the elements: all above are in the set, all below are
// not, and those between are searched again, until there are few enough to be sorted.
//
// A score from sums in this order may differ from that of LabelMasses, which counts, by rounding. Where it is that near
// to the threshold, LabelMasses decides. So a label is in a set if and only if its score is at most the threshold.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "rule.hpp"

namespace boltzmax {

template <class T>
struct SetElement {
  T x, e;
};
struct IsLarger {
  template <class T>
  bool operator()(const SetElement<T>& a, const SetElement<T>& b) const {
    return a.x > b.x;
  }
};

// Sorts some elements, the largest first, by insertion.
template <class T>
void SortFew(SetElement<T>* elements, size_t count) {
  for (size_t i = 1; i < count; ++i) {
    const SetElement<T> next = elements[i];
    size_t j = i;
    for (; j > 0 && elements[j - 1].x < next.x; --j) elements[j] = elements[j - 1];
    elements[j] = next;
  }
}

// Sorts a sample, the largest first: the rank of an element is the number of larger ones, which are counted without
// branches. Only if some are equal, elements are compared one by one.
template <size_t N, class T>
void SortSample(const T* x, const T* e, SetElement<T>* sorted) {
  using Rank = std::conditional_t<sizeof(T) == sizeof(float), int32_t, int64_t>;
  Rank rank[N] = {};
  for (size_t j = 0; j < N; ++j) {
    const T other = x[j];
    for (size_t i = 0; i < N; ++i) rank[i] += x[i] < other;
  }
  uint64_t ranks = 0;
  static_assert(N <= 64);
  for (size_t i = 0; i < N; ++i) {
    sorted[rank[i]] = {x[i], e[i]};
    ranks |= uint64_t{1} << rank[i];
  }
  if (std::popcount(ranks) == static_cast<int>(N)) return;
  for (size_t i = 0; i < N; ++i) sorted[i] = {x[i], e[i]};
  SortFew(sorted, N);
}

// A sum in twice the precision of double.
class MassSum {
 public:
  void Add(double term) {
    double error;
    hi_ = TwoSum(hi_, term, &error);
    lo_ += error;
  }
  double Total() const { return hi_ + lo_; }

 private:
  double hi_ = 0.0, lo_ = 0.0;
};

template <class T>
class NucleusSearch {
 public:
  // The memory of rows of n elements.
  NucleusSearch(const SetKernels<T>& kernels, const ScoreRule& rule, size_t n)
      : kernels_(kernels), rule_(rule), n_(n), kept_x_(n), kept_e_(n) {}

  // Begins with a row, of which `terms` is the sum.
  void Begin(const T* x, const RowTerms<T>& terms, double u) {
    x_ = x;
    terms_ = terms;
    u_ = u;
    has_exact_ = false;
  }

  // The least value whose class is in the set, or +inf; -inf if all are. `e` has the exponentials of the row. Not for
  // kLac.
  T Border(const T* e, double threshold) {
    threshold_ = threshold;
    border_ = kInfinity;
    mass_ = {};
    count_ = 0.0;
    Narrow(x_, e);
    return Finish();
  }

  // What is known of an element of the row.
  LabelMass MassOf(double above, double upper, double own, double larger) const {
    return {terms_.total, above, upper, own, terms_.top, larger};
  }
  // Whether the class with this value is in the set.
  bool IsIn(const LabelMass& mass, T value, double threshold) {
    const double score = rule_.Score(mass, u_);
    if (std::abs(score - threshold) > Near(mass, threshold)) return score <= threshold;
    return ExactScore(value) <= threshold;
  }

 private:
  static constexpr T kInfinity = std::numeric_limits<T>::infinity(), kLowest = std::numeric_limits<T>::lowest();
  // Masses are sums in different orders, partly of trees of four in the type of the terms: error at most 2^-23 (2^-52)
  // of their own size.
  static constexpr double kNear = sizeof(T) == sizeof(float) ? 0x1p-22 : 0x1p-50;
  static constexpr size_t kFew = 32, kSample = 32;

  // The most by which rounding may have changed a score.
  double Near(const LabelMass& mass, double threshold) const {
    if (rule_.kind == ScoreKind::kLac) return kNear * (mass.own / mass.total) + 0x1p-51;
    return kNear * (1.0 + std::abs(threshold));
  }
  double ExactScore(T value) {
    if (!has_exact_ || exact_value_ != value) {
      LabelMass mass;
      kernels_.label_masses(x_, static_cast<ptrdiff_t>(n_ * sizeof(T)), 1, n_, &value, &mass);
      exact_score_ = rule_.Score(mass, u_);
      exact_value_ = value;
      has_exact_ = true;
    }
    return exact_score_;
  }

  // Whether the element `pivot`, and with it all larger ones, are in the set. `upper` has those from the pivot on, but
  // for those that are known to be in the set.
  bool IsPivotIn(T pivot, const Upper& upper) {
    const double mass = mass_.Total() + upper.mass, count = count_ + upper.count;
    // No score of these exceeds that of an element below all but one of them, with all their mass above it; and no
    // score of an element below them is less than that of one below all of them.
    const LabelMass last = MassOf(mass, mass, 0.0, count - 1.0), next = MassOf(mass, mass, 0.0, count);
    const double near = Near(last, threshold_);
    if (rule_.Score(last, u_) + near < threshold_) return true;
    if (rule_.Score(next, u_) - near > threshold_) return false;
    return ExactScore(pivot) <= threshold_;
  }

  // Takes what is from `at` on into the set.
  void Take(T at, const Upper& upper) {
    border_ = at;
    mass_.Add(upper.mass);
    count_ += upper.count;
  }

  // Leaves few elements in kept_, those between what is in the set and what is not; none of them is -inf.
  void Narrow(const T* x, const T* e) {
    size_t m = n_;
    double rest = terms_.total;  // of the elements that are left
    T high = kInfinity;
    const T* all = e;
    low_ = kLowest;
    const auto take_kept = [&](size_t left) {
      x = kept_x_.data();
      e = kept_e_.data();
      const bool is_less = left < m;
      m = left;
      return is_less;
    };
    const auto keep = [&] { return take_kept(kernels_.between(x, e, m, low_, high, kept_x_.data(), kept_e_.data())); };
    while (m > kFew) {
      T pivots[2];
      const size_t place = ChoosePivots(x, e, m, rest, pivots);
      if (place == kSample) {
        keep();
        continue;
      }
      // Where few elements are above the border, only these are counted.
      const bool is_top = x == x_ && place < kSample / 4;
      if (is_top) {
        low_ = pivots[1];
        keep();
      }
      // In a whole row, one pass counts and keeps what is between the pivots, where the border most likely is.
      const bool is_split = x == x_;
      Upper uppers[2];
      size_t split = 0;
      if (is_split) {
        split = kernels_.split(x, e, m, pivots, uppers, kept_x_.data(), kept_e_.data());
      } else {
        kernels_.uppers(x, e, m, pivots, uppers);
      }
      if (!IsPivotIn(pivots[0], uppers[0])) {
        low_ = pivots[0];
        rest = uppers[0].mass;
      } else if (!IsPivotIn(pivots[1], uppers[1])) {
        rest = uppers[1].mass - uppers[0].mass;
        Take(pivots[0], uppers[0]);
        low_ = pivots[1];
        high = pivots[0];
        if (is_split) {
          if (!take_kept(split)) break;
          continue;
        }
      } else {
        rest -= uppers[1].mass;
        Take(pivots[1], uppers[1]);
        high = pivots[1];
        if (is_top) {
          x = x_;
          e = all;
          m = n_;
          low_ = kLowest;
        }
      }
      if (!keep() && !is_top) break;  // nearly all are equal
    }
    if (x == x_) keep();
    kept_ = m;
  }

  // Two elements around the border, as a sample suggests. Returns its place in the sample, or kSample if that has
  // elements of -inf.
  size_t ChoosePivots(const T* x, const T* e, size_t m, double rest, T* pivots) {
    double total = 0.0;
    T of_x[kSample], of_e[kSample];
    for (size_t i = 0; i < kSample; ++i) {
      const size_t at = i * m / kSample;
      if (x[at] < kLowest) return kSample;
      of_x[i] = x[at];
      of_e[i] = e[at];
      total += static_cast<double>(e[at]);
    }
    SortSample<kSample>(of_x, of_e, sample_);
    const double each = static_cast<double>(m) / kSample, scale = total > 0.0 ? rest / total : 0.0;
    double mass = mass_.Total();
    size_t i = 0;
    for (; i + 1 < kSample; ++i) {
      mass += static_cast<double>(sample_[i].e) * scale;
      const double larger = count_ + static_cast<double>(i) * each;
      if (rule_.Score(MassOf(mass, mass, 0.0, larger), u_) > threshold_) break;
    }
    // In a whole row, a border that is not between the pivots costs a pass over the row.
    const size_t aside = x == x_ ? 4 : 2;
    pivots[0] = sample_[i < aside ? 0 : i - aside].x;
    pivots[1] = sample_[std::min(i + aside, kSample - 1)].x;
    return i;
  }

  // Walks down the elements that are left, largest first, ties together; the elements of -inf come last.
  T Finish() {
    candidates_.clear();
    for (size_t i = 0; i < kept_; ++i) candidates_.push_back({kept_x_[i], kept_e_[i]});
    if (kept_ <= kFew) {
      SortFew(candidates_.data(), kept_);
    } else {
      std::sort(candidates_.begin(), candidates_.end(), IsLarger());
    }
    for (size_t i = 0; i < candidates_.size();) {
      const T value = candidates_[i].x, own = candidates_[i].e;
      size_t end = i;
      const double above = mass_.Total();
      for (; end < candidates_.size() && candidates_[end].x == value; ++end) {
        mass_.Add(static_cast<double>(candidates_[end].e));
      }
      if (!IsIn(MassOf(above, mass_.Total(), static_cast<double>(own), count_), value, threshold_)) return border_;
      border_ = value;
      count_ += static_cast<double>(end - i);
      i = end;
    }
    const bool has_all = low_ == kLowest;  // but for elements of -inf
    return has_all && IsIn(MassOf(terms_.total, terms_.total, 0.0, count_), -kInfinity, threshold_) ? -kInfinity
                                                                                                    : border_;
  }

  const SetKernels<T>& kernels_;
  ScoreRule rule_;
  size_t n_;
  std::vector<T> kept_x_, kept_e_;  // the elements that are still open
  size_t kept_ = 0;
  std::vector<SetElement<T>> candidates_;
  SetElement<T> sample_[kSample];

  // The row of the search: its border so far, and what is from there on.
  const T* x_ = nullptr;
  RowTerms<T> terms_ = {};
  double u_ = 0.0, threshold_ = 0.0;
  T border_ = kInfinity, low_ = kLowest;
  MassSum mass_;
  double count_ = 0.0;
  // The last exact score.
  bool has_exact_ = false;
  T exact_value_ = 0;
  double exact_score_ = 0.0;
};

}  // namespace boltzmax
