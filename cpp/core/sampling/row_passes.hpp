// Passes over the classes of a row that are left: those from one rank to another in the order of likelihood.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../runtime/sampling_table.hpp"
#include "few_classes.hpp"
#include "row_reader.hpp"

namespace boltzmax {

template <class T>
const SamplingKernels<T>& SamplingKernelsFor() {
  if constexpr (std::is_same_v<T, float>) return ActiveSampling().f32;
  else return ActiveSampling().f64;
}

// The logits from lo to hi; of those equal to lo only up to the id lo_id, of those equal to hi only from hi_id on. Both
// are finite, and hi is the logit of a class.
template <class T>
struct Range {
  T lo, hi;
  size_t lo_id, hi_id;
};

template <class T>
T NextAbove(T x) {
  return std::nextafter(x, std::numeric_limits<T>::infinity());
}
template <class T>
T NextBelow(T x) {
  return std::nextafter(x, -std::numeric_limits<T>::infinity());
}

template <class T>
class RowPasses {
 public:
  explicit RowPasses(const SampleProblem& p) : n_(p.n), reader_(p), kernels_(SamplingKernelsFor<T>()) {
    maxima_.resize((n_ + kSampleGroup - 1) / kSampleGroup);
    terms_.resize(std::min(n_, kPiece));
  }

  size_t Length() const { return n_; }

  // Reads a row; false if it has NaN, +inf, or no finite logit. Then all finite logits are left.
  bool Open(size_t row, Range<T>* range) {
    reader_.Open(row);
    for (size_t begin = 0; begin < n_; begin += kPiece) {
      const size_t count = std::min(kPiece, n_ - begin);
      kernels_.maxima(reader_.Piece(begin, count), count, maxima_.data() + begin / kSampleGroup);
    }
    T max = -std::numeric_limits<T>::infinity();
    for (const T m : maxima_) {
      if (!(m <= std::numeric_limits<T>::max())) return false;
      max = std::max(max, m);
    }
    row_max_ = max;
    *range = {std::numeric_limits<T>::lowest(), max, n_ - 1, 0};
    return max >= range->lo;
  }
  const std::vector<T>& GroupMaxima() const { return maxima_; }

  // Calls f(x, begin, count, lo, hi) for runs of elements, of which those from lo to hi are left. A run lies in one
  // group, or begins with one. With `skips`, groups whose maximum is too low are not read.
  template <class F>
  void ForRuns(const Range<T>& range, bool skips, F f) {
    for (size_t begin = 0, end; begin < n_; begin = end) {
      const bool is_cut = Cuts(range, begin, std::min(begin + kPiece, n_));
      end = std::min(begin + (skips || is_cut ? kSampleGroup : kPiece), n_);
      if (skips && maxima_[begin / kSampleGroup] < range.lo) continue;
      const T* x = reader_.Piece(begin, end - begin);
      for (size_t from = begin, to; from < end; from = to) {
        to = end;
        for (const size_t cut : {range.lo_id + 1, range.hi_id}) {
          if (cut > from && cut < to) to = cut;
        }
        const T lo = from <= range.lo_id ? range.lo : NextAbove(range.lo);
        const T hi = from >= range.hi_id ? range.hi : NextBelow(range.hi);
        if (!f(x + (from - begin), from, to - from, lo, hi)) return;
      }
    }
  }

  // The range of what is above `bound`.
  static Range<T> Above(const Range<T>& range, T bound) {
    return {NextAbove(bound), range.hi, std::numeric_limits<size_t>::max() - 1, range.hi_id};
  }
  static Range<T> Within(const Range<T>& range, T lo, T hi) {
    Range<T> within = range;
    if (lo > range.lo) within.lo = lo, within.lo_id = std::numeric_limits<size_t>::max() - 1;
    if (hi < range.hi) within.hi = hi, within.hi_id = 0;
    return within;
  }

  size_t Count(const Range<T>& range) {
    size_t total = 0;
    ForRuns(range, true, [&](const T* x, size_t, size_t n, T lo, T hi) {
      total += kernels_.count(x, n, lo, hi);
      return true;
    });
    return total;
  }

  // Collects the classes that are left, in the order of their ids; false if there are more than `most`.
  bool Collect(const Range<T>& range, FoundElements<T>* found) {
    found->count = found->above = 0;
    bool fits = true;
    ForRuns(range, true, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
      fits = CollectRun(x, begin, n, {lo, hi, hi}, found);
      return fits;
    });
    return fits;
  }
  bool CollectRun(const T* x, size_t begin, size_t n, const Bounds<T>& bounds, FoundElements<T>* found) {
    return kernels_.collect(x, n, bounds, static_cast<uint32_t>(begin), found);
  }

  // The id of the k-th class that is left, counted from the lowest id.
  size_t PlaceOf(const Range<T>& range, size_t k) {
    size_t place = 0;
    ForRuns(range, true, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
      const size_t count = kernels_.count(x, n, lo, hi);
      if (count < k) {
        k -= count;
        return true;
      }
      for (size_t i = 0; k > 0; ++i) {
        if (x[i] >= lo && x[i] <= hi && --k == 0) place = begin + i;
      }
      return false;
    });
    return place;
  }

  // ---- masses: sums of exp((x - max) / T), in units of the likeliest class that is left ----

  void SetUnit(const Range<T>& range, double temperature) {
    max_ = static_cast<double>(range.hi);
    temperature_ = temperature;
    if constexpr (std::is_same_v<T, float>) {
      const double scale = 1.4426950408889634 / temperature,
                   unit = kernels_.is_fused ? std::nearbyint(max_ * scale) : 0.0;
      const auto rounded = static_cast<float>(scale);
      fast_ = {static_cast<float>(max_ - kFloor * temperature),
               row_max_,
               rounded,
               static_cast<float>(scale - static_cast<double>(rounded)),
               static_cast<float>(unit),
               range.hi,
               max_,
               temperature};
      const double largest = std::abs(max_) * scale + kFloor * 1.4427;
      is_exact_ = !(largest <= kMostExponent) || !std::isfinite(fast_.low);
      fast_unit_ = kernels_.is_fused ? std::exp2(unit - max_ * scale) : 1.0;
      error_ = is_exact_ ? kTiny
                         : kernels_.mass_error +
                               (kernels_.is_fused ? 0.0 : 0x1p-22 * std::log(static_cast<double>(n_) + 1.0));
    } else {
      fast_ = {std::numeric_limits<double>::lowest(), row_max_, 0.0, 0.0, 0.0, 0.0, max_, temperature};
      is_exact_ = false;
      error_ = kernels_.mass_error;
    }
  }
  // A bound on the relative error of Masses.
  double Error() const { return error_; }
  double Max() const { return max_; }

  // Adds the masses of runs to those of their groups.
  void AddMasses(const T* x, size_t begin, size_t n, T lo, T hi, double* sums) {
    double* at = sums + begin / kSampleGroup;
    if (!is_exact_) return kernels_.masses(x, n, lo, hi, fast_, at);
    AddExactMasses(x, begin, n, lo, hi, sums);
  }
  void AddExactMasses(const T* x, size_t begin, size_t n, T lo, T hi, double* sums) {
    double* at = sums + begin / kSampleGroup;
    kernels_.exact_terms(x, n, max_, temperature_, terms_.data());
    for (size_t first = 0; first < n; first += kSampleGroup) {
      at[first / kSampleGroup] +=
          MaskedSum(x + first, terms_.data() + first, std::min(kSampleGroup, n - first), lo, hi);
    }
  }
  void Masses(const Range<T>& range, bool exactly, std::vector<double>* sums) {
    sums->assign(maxima_.size(), 0.0);
    ForRuns(range, false, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
      exactly ? AddExactMasses(x, begin, n, lo, hi, sums->data()) : AddMasses(x, begin, n, lo, hi, sums->data());
      return true;
    });
    if (!exactly) Scale(sums);
  }
  // The exact masses of groups; returns the number of classes. Those that are left are packed, as they may be few.
  size_t ExactMasses(const Range<T>& range, std::vector<double>* sums) {
    sums->assign(maxima_.size(), 0.0);
    packed_.resize(terms_.size() + kRoom);
    places_.resize(packed_.size());
    size_t total = 0;
    ForRuns(range, false, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
      FoundElements<T> found = {packed_.data(), places_.data(), n, 0, 0};
      CollectRun(x, begin, n, {lo, hi, hi}, &found);
      kernels_.exact_terms(packed_.data(), found.count, max_, temperature_, terms_.data());
      for (size_t i = 0, end; i < found.count; i = end) {
        const size_t group = places_[i] / kSampleGroup;
        for (end = i; end < found.count && places_[end] / kSampleGroup == group;) ++end;
        (*sums)[group] += SumOf(end - i, [&](size_t j) { return terms_[i + j]; });
      }
      total += found.count;
      return true;
    });
    return total;
  }
  // Makes fast masses those in units of the likeliest class.
  void Scale(std::vector<double>* sums) const {
    const double unit = std::is_same_v<T, float> && !is_exact_ ? fast_unit_ : 1.0;
    for (double& sum : *sums) sum *= unit;
  }

  // The exact mass of all classes that are left, and of those up to a logit.
  void ExactSums(const Range<T>& range, T bound, double* total, double* below) {
    double sums[2] = {};
    ForRuns(range, false, [&](const T* x, size_t, size_t n, T lo, T hi) {
      kernels_.exact_terms(x, n, max_, temperature_, terms_.data());
      sums[0] += MaskedSum(x, terms_.data(), n, lo, hi);
      sums[1] += MaskedSum(x, terms_.data(), n, lo, std::min(hi, bound));
      return true;
    });
    *total = sums[0];
    *below = sums[1];
  }

  // Calls f(x, id) for all classes that are left.
  template <class F>
  void ForClasses(const Range<T>& range, F f) {
    ForRuns(range, true, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
      for (size_t i = 0; i < n; ++i) {
        if (x[i] >= lo && x[i] <= hi) f(static_cast<double>(x[i]), begin + i);
      }
      return true;
    });
  }

  // The sums of exact terms, and of terms times (max - x) / T.
  void ExactMoments(const Range<T>& range, double* total, double* weighted) {
    double sums[4] = {}, moments[4] = {};
    ForRuns(range, false, [&](const T* x, size_t, size_t n, T lo, T hi) {
      kernels_.exact_terms(x, n, max_, temperature_, terms_.data());
      const auto add = [&](size_t i, size_t j) {
        const double term = x[i] >= lo && x[i] <= hi ? terms_[i] : 0.0;
        sums[j] += term;
        moments[j] += term > 0.0 ? term * (max_ - static_cast<double>(x[i])) : 0.0;
      };
      size_t i = 0;
      for (; i + 4 <= n; i += 4) {
        for (size_t j = 0; j < 4; ++j) add(i + j, j);
      }
      for (; i < n; ++i) add(i, i % 4);
      return true;
    });
    *total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    *weighted = ((moments[0] + moments[1]) + (moments[2] + moments[3])) / temperature_;
  }

  // Calls f(x, term, id) for all classes that are left, with exact terms.
  template <class F>
  void ForTerms(const Range<T>& range, F f) {
    ForRuns(range, false, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
      kernels_.exact_terms(x, n, max_, temperature_, terms_.data());
      for (size_t i = 0; i < n; ++i) {
        if (x[i] >= lo && x[i] <= hi) f(static_cast<double>(x[i]), terms_[i], begin + i);
      }
      return true;
    });
  }
  // The same for one group.
  template <class F>
  void ForTermsOfGroup(const Range<T>& range, size_t group, F f) {
    const size_t begin = group * kSampleGroup, n = std::min(kSampleGroup, n_ - begin);
    const T* x = reader_.Piece(begin, n);
    kernels_.exact_terms(x, n, max_, temperature_, terms_.data());
    for (size_t i = 0; i < n; ++i) {
      const bool above = x[i] > range.lo || (x[i] == range.lo && begin + i <= range.lo_id);
      if (above && (x[i] < range.hi || (x[i] == range.hi && begin + i >= range.hi_id))) f(terms_[i], begin + i, x[i]);
    }
  }
  // Calls f(x, terms, begin, n, is_left) for the pieces of the row, with exact terms if they are wanted.
  template <class F>
  void WritePieces(const Range<T>& range, bool with_terms, F f) {
    const auto is_left = [&](T x, size_t id) {
      return (x > range.lo || (x == range.lo && id <= range.lo_id)) &&
             (x < range.hi || (x == range.hi && id >= range.hi_id));
    };
    for (size_t begin = 0; begin < n_; begin += kPiece) {
      const size_t n = std::min(kPiece, n_ - begin);
      const T* x = reader_.Piece(begin, n);
      if (with_terms) kernels_.exact_terms(x, n, max_, temperature_, terms_.data());
      f(x, terms_.data(), begin, n, is_left);
    }
  }
  // exp((x - max) / T) of other numbers.
  void ExactTerms(const T* x, size_t n, double* terms) const { kernels_.exact_terms(x, n, max_, temperature_, terms); }

  // The number, and the fast mass, of those of some other elements that are from lo to hi.
  size_t CountOf(const T* x, size_t n, T lo, T hi) const { return kernels_.count(x, n, lo, hi); }
  double MassOf(const T* x, size_t n, T lo, T hi) {
    std::vector<double>& sums = few_sums_;
    sums.assign(n / kSampleGroup + 1, 0.0);
    if (is_exact_) {
      few_terms_.resize(n);
      ExactTerms(x, n, few_terms_.data());
      return MaskedSum(x, few_terms_.data(), n, lo, hi);
    }
    kernels_.masses(x, n, lo, hi, fast_, sums.data());
    Scale(&sums);
    double total = 0.0;
    for (const double sum : sums) total += sum;
    return total;
  }

  RowReader<T>& Reader() { return reader_; }

 private:
  static constexpr size_t kPiece = RowReader<T>::kPiece, kRoom = 64;
  // Fast terms below exp(-kFloor) are too large; there are at most 2^32, and they matter as little as rounding.
  static constexpr double kFloor = 80.0, kTiny = 0x1p-43;
  static constexpr double kMostExponent = 0x1p17;  // whose product with the rest of the scale keeps its digits

  static bool Cuts(const Range<T>& range, size_t begin, size_t end) {
    return (range.lo_id + 1 > begin && range.lo_id + 1 < end) || (range.hi_id > begin && range.hi_id < end);
  }

  // The sum of n numbers: four sums, whose additions overlap.
  template <class F>
  static double SumOf(size_t n, F number) {
    double sums[4] = {};
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
      for (size_t j = 0; j < 4; ++j) sums[j] += number(i + j);
    }
    for (; i < n; ++i) sums[i % 4] += number(i);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
  static double MaskedSum(const T* x, const double* terms, size_t n, T lo, T hi) {
    return SumOf(n, [&](size_t i) { return x[i] >= lo && x[i] <= hi ? terms[i] : 0.0; });
  }

  const size_t n_;
  RowReader<T> reader_;
  const SamplingKernels<T>& kernels_;
  std::vector<T> maxima_, packed_;
  std::vector<uint32_t> places_;
  T row_max_ = 0;
  std::vector<double> terms_, few_sums_, few_terms_;
  double max_ = 0.0, temperature_ = 1.0, error_ = 0.0, fast_unit_ = 1.0;
  FastExp<T> fast_ = {};
  bool is_exact_ = false;
};

}  // namespace boltzmax
