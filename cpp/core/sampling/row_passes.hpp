// Passes over the classes of a row that are left: those from one rank to another in the order of likelihood.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../runtime/sampling_table.hpp"
#include "few_classes.hpp"
#include "row_parts.hpp"
#include "row_split.hpp"

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
  explicit RowPasses(const SampleProblem& p) : n_(p.n), parts_(p), kernels_(SamplingKernelsFor<T>()) {
    maxima_.resize((n_ + kSampleGroup - 1) / kSampleGroup);
    terms_.resize(std::min(n_, kPiece));
  }

  size_t Length() const { return n_; }

  // Reads a row; false if it has NaN, +inf, or no finite logit. Then all finite logits are left.
  bool Open(size_t row, Range<T>* range) {
    parts_.Open(row);
    guess_ = -kInfinity;
    ForPieces(
        [&](const T* x, size_t begin, size_t n) { kernels_.maxima(x, n, maxima_.data() + begin / kSampleGroup); });
    return OpenRange(range);
  }
  // The same, with the masses that SetUnit and Masses would give, from the same pass. A guess stands for the maximum; if
  // it is none, there are no sums.
  bool OpenWithMasses(size_t row, double temperature, Range<T>* range, std::vector<double>* sums) {
    sums->clear();
    if (std::is_same_v<T, double> || !GuessUnit(row, temperature)) return Open(row, range);
    sums->resize(maxima_.size());
    ForPieces([&](const T* x, size_t begin, size_t n) {
      const size_t group = begin / kSampleGroup;
      kernels_.maxima_and_masses(x, n, fast_, maxima_.data() + group, sums->data() + group);
    });
    if (!OpenRange(range)) return false;
    SetUnit(*range, temperature);
    if (Reference(temperature) == guess_) Scale(sums);
    else sums->clear();
    return true;
  }
  const std::vector<T>& GroupMaxima() const { return maxima_; }
  // The sum of their terms.
  double MassOfMaxima() {
    few_sums_.resize(maxima_.size());
    ExactTerms(maxima_.data(), maxima_.size(), few_sums_.data());
    return Sum(few_sums_);
  }

  // Calls f(x, begin, count, lo, hi) for runs of elements, of which those from lo to hi are left. A run lies in one
  // group, or begins with one. With `skips`, groups whose maximum is too low are not read.
  template <class F>
  void ForRuns(const Range<T>& range, bool skips, F f) {
    ForRunsOf(&Reader(), 0, n_, range, skips, f);
  }
  // The same for a part of the row.
  template <class F>
  void ForRunsOf(RowReader<T>* reader, size_t first, size_t last, const Range<T>& range, bool skips, F f) const {
    for (size_t begin = first, end; begin < last; begin = end) {
      while (skips && begin < last && maxima_[begin / kSampleGroup] < range.lo) begin += kSampleGroup;
      if (begin >= last) return;
      const bool is_cut = Cuts(range, begin, std::min(begin + kPiece, last));
      end = std::min(begin + (skips || is_cut ? kSampleGroup : kPiece), last);
      const T* x = reader->Piece(begin, end - begin);
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

  static Range<T> Within(const Range<T>& range, T lo, T hi) {
    Range<T> within = range;
    if (lo > range.lo) within.lo = lo, within.lo_id = std::numeric_limits<size_t>::max() - 1;
    if (hi < range.hi) within.hi = hi, within.hi_id = 0;
    return within;
  }

  // The largest logit that is left.
  T Largest(const Range<T>& range) {
    T largest = -kInfinity;
    ForRuns(range, true, [&](const T* x, size_t, size_t n, T, T hi) {
      largest = std::max(largest, kernels_.largest_up_to(x, n, hi));
      return true;
    });
    return largest;
  }

  size_t Count(const Range<T>& range) {
    std::atomic<size_t> total = 0;
    parts_.ForEach([&](size_t, RowReader<T>* reader, size_t from, size_t to) {
      size_t count = 0;
      ForRunsOf(reader, from, to, range, true, [&](const T* x, size_t, size_t n, T lo, T hi) {
        count += kernels_.count(x, n, lo, hi);
        return true;
      });
      total += count;
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
      const auto reference = static_cast<double>(Reference(temperature));
      const double scale = 1.4426950408889634 / temperature, unit = std::nearbyint(reference * scale);
      const auto rounded = static_cast<float>(scale);
      fast_ = {static_cast<float>(reference - kFloor * temperature),
               row_max_,
               rounded,
               static_cast<float>(scale - static_cast<double>(rounded)),
               static_cast<float>(unit),
               max_,
               temperature};
      const double largest = std::abs(reference) * scale + kFloor * 1.4427;
      is_exact_ = !(largest <= kMostExponent) || !std::isfinite(fast_.low);
      fast_unit_ = std::exp2(unit - max_ * scale);
      error_ = is_exact_ ? kTiny : kernels_.mass_error;
    } else {
      fast_ = {std::numeric_limits<double>::lowest(), row_max_, 0.0, 0.0, 0.0, max_, temperature};
      is_exact_ = false;
      error_ = kernels_.mass_error;
    }
  }
  // A bound on the relative error of Masses.
  double Error() const { return error_; }
  // A bound on that of adding masses up, in double.
  double Rounding() const { return 0x1p-52 * static_cast<double>(maxima_.size() + 64); }
  double Max() const { return max_; }

  // Adds the masses of runs to those of their groups.
  void AddMasses(const T* x, size_t begin, size_t n, T lo, T hi, double* sums) const {
    double* at = sums + begin / kSampleGroup;
    if (!is_exact_) return kernels_.masses(x, n, lo, hi, fast_, at);
    AddExactMasses(x, begin, n, lo, hi, sums);
  }
  void AddExactMasses(const T* x, size_t begin, size_t n, T lo, T hi, double* sums) const {
    double weighted = 0.0;
    kernels_.exact_moments(x, n, lo, hi, max_, temperature_, sums + begin / kSampleGroup, &weighted);
  }
  void Masses(const Range<T>& range, bool exactly, std::vector<double>* sums) {
    sums->assign(maxima_.size(), 0.0);
    parts_.ForEach([&](size_t, RowReader<T>* reader, size_t from, size_t to) {
      ForRunsOf(reader, from, to, range, false, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
        exactly ? AddExactMasses(x, begin, n, lo, hi, sums->data()) : AddMasses(x, begin, n, lo, hi, sums->data());
        return true;
      });
    });
    if (!exactly) Scale(sums);
  }
  double Mass(const Range<T>& range, bool exactly) {
    Masses(range, exactly, &few_sums_);
    return Sum(few_sums_);
  }
  // Whether Split may be called: masses are fast, and what is left out already is below the bracket.
  bool CanSplit(const Range<T>& range, const Bracket<T>& bracket) const {
    return !is_exact_ && range.hi == row_max_ && range.hi_id == 0 &&
           (bracket.lo > range.lo || range.lo == std::numeric_limits<T>::lowest());
  }
  // Divides the row; the masses are those of the kernel. False if there is too much in the bracket.
  bool Split(const Bracket<T>& bracket, RowSplit<T>* split) {
    return split->Divide(&parts_, n_, kernels_, bracket, row_max_, fast_);
  }
  // Makes fast masses those in units of the likeliest class.
  void Scale(std::vector<double>* sums) const {
    for (double& sum : *sums) sum = InUnits(sum);
  }
  double InUnits(double mass) const { return mass * Unit(); }

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
    few_sums_.assign(maxima_.size(), 0.0);
    *weighted = 0.0;
    ForRuns(range, false, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
      kernels_.exact_moments(x, n, lo, hi, max_, temperature_, few_sums_.data() + begin / kSampleGroup, weighted);
      return true;
    });
    *total = Sum(few_sums_);
  }
  static double Sum(const std::vector<double>& sums) {
    double total = 0.0;
    for (const double sum : sums) total += sum;
    return total;
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
    T x[kSampleGroup + kRoom];
    uint32_t place[kSampleGroup + kRoom];
    double terms[kSampleGroup];
    FoundElements<T> found = {x, place, kSampleGroup, 0, 0};
    CollectRun(Reader().Piece(begin, n), begin, n, {range.lo, range.hi, range.hi}, &found);
    ExactTerms(x, found.count, terms);
    for (size_t i = 0; i < found.count; ++i) {
      const bool is_out = (x[i] == range.lo && place[i] > range.lo_id) || (x[i] == range.hi && place[i] < range.hi_id);
      if (!is_out) f(terms[i], place[i], x[i]);
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
      const T* x = Reader().Piece(begin, n);
      if (with_terms) kernels_.exact_terms(x, n, max_, temperature_, terms_.data());
      f(x, terms_.data(), begin, n, is_left);
    }
  }
  // exp((x - max) / T) of other numbers.
  void ExactTerms(const T* x, size_t n, double* terms) const { kernels_.exact_terms(x, n, max_, temperature_, terms); }

  // Of some other elements, the largest up to hi; the number, and the mass, of those from lo to hi.
  T LargestOf(const T* x, size_t n, T hi) const { return kernels_.largest_up_to(x, n, hi); }
  size_t CountOf(const T* x, size_t n, T lo, T hi) const { return kernels_.count(x, n, lo, hi); }
  double MassOf(const T* x, size_t n, T lo, T hi, bool exactly) {
    few_sums_.assign(n / kSampleGroup + 1, 0.0);
    if (exactly || is_exact_) {
      AddExactMasses(x, 0, n, lo, hi, few_sums_.data());
      return Sum(few_sums_);
    }
    kernels_.masses(x, n, lo, hi, fast_, few_sums_.data());
    return InUnits(Sum(few_sums_));
  }

  RowReader<T>& Reader() { return parts_.Reader(); }

 private:
  static constexpr size_t kPiece = RowReader<T>::kPiece, kRoom = 16;
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();
  // Fast terms below exp(-kFloor) are too large; there are at most 2^32, and they matter as little as rounding.
  static constexpr double kFloor = 80.0, kTiny = 0x1p-43;
  static constexpr double kMostExponent = 0x1p17;  // whose product with the rest of the scale keeps its digits
  static constexpr double kHeadroom = 40.0;        // of the maximum over a guess, in temperatures

  double Unit() const { return std::is_same_v<T, float> && !is_exact_ ? fast_unit_ : 1.0; }

  // Calls f(x, begin, n) for the pieces of the row.
  template <class F>
  void ForPieces(F f) {
    parts_.ForEach([&](size_t, RowReader<T>* reader, size_t from, size_t to) {
      RowParts<T>::ForPieces(from, to, [&](size_t begin, size_t n) {
        f(reader->Piece(begin, n), begin, n);
        return true;
      });
    });
  }

  // From the maxima of groups.
  bool OpenRange(Range<T>* range) {
    T max = -kInfinity;
    for (const T m : maxima_) {
      if (!(m <= std::numeric_limits<T>::max())) return false;
      max = std::max(max, m);
    }
    row_max_ = max;
    *range = {std::numeric_limits<T>::lowest(), max, n_ - 1, 0};
    return max >= range->lo;
  }

  // A unit for a row of which only the first group is known. False if that says nothing, or the unit would be useless.
  bool GuessUnit(size_t row, double temperature) {
    parts_.Open(row);
    const size_t n = std::min(kSampleGroup, n_);
    kernels_.maxima(Reader().Piece(0, n), n, &guess_);
    if (!std::isfinite(guess_)) return false;
    row_max_ = guess_;
    SetUnit({std::numeric_limits<T>::lowest(), guess_, n_ - 1, 0}, temperature);
    return !is_exact_;
  }
  // The logit near which fast terms have no overflow: the guess, unless it turned out to be too low.
  T Reference(double temperature) const {
    const double distance = max_ - static_cast<double>(guess_);
    return distance >= 0.0 && distance <= kHeadroom * temperature ? guess_ : static_cast<T>(max_);
  }

  static bool Cuts(const Range<T>& range, size_t begin, size_t end) {
    return (range.lo_id + 1 > begin && range.lo_id + 1 < end) || (range.hi_id > begin && range.hi_id < end);
  }

  const size_t n_;
  RowParts<T> parts_;
  const SamplingKernels<T>& kernels_;
  std::vector<T> maxima_;
  T row_max_ = 0, guess_ = 0;  // the guess is that of OpenWithMasses
  std::vector<double> terms_, few_sums_;
  double max_ = 0.0, temperature_ = 1.0, error_ = 0.0, fast_unit_ = 1.0;
  FastExp<T> fast_ = {};
  bool is_exact_ = false;
};

}  // namespace boltzmax
