// Filters of a row: a range of its classes, or, once they are few, a list of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "../../kernels/philox.hpp"
#include "cut.hpp"
#include "few_classes.hpp"
#include "mass_split.hpp"
#include "row_passes.hpp"
#include "typical.hpp"

namespace boltzmax {

// The classes of a row that the steps leave: a range of the row, or, once they are few, a list of them.
template <class T>
class FilteredRow {
 public:
  explicit FilteredRow(const SampleProblem& p) : p_(p), passes_(p), key_(MakePhiloxKey(p.key)) {}

  // Applies the program; false for a row of which nothing can be drawn.
  bool Filter(size_t row) {
    row_ = row;
    counter_ = p_.counters == nullptr ? row : p_.counters[row];
    temperature_ = 1.0;
    is_few_ = is_hi_cut_ = has_sums_ = has_left_ = false;
    if (p_.n == 0) return false;
    size_t line = 0;
    for (; line < p_.line_count && IsPlainTemperature(p_.lines[line]); ++line) Apply(p_.lines[line]);
    if (!Open(line)) return false;
    if (p_.n <= kShortRow) CollectFew();
    for (; line < p_.line_count; ++line) Apply(p_.lines[line]);
    return true;
  }

 protected:
  // A list is sorted, and more than this takes longer than another pass over a row.
  static constexpr size_t kFew = 512, kTopFew = 64, kFound = 16384, kRoom = 64, kShortRow = 128;
  static constexpr double kLeastLeftOut = 1e-5;  // with less of the mass, rounding matters
  // Products of temperatures have no limit, but divide.
  static constexpr double kLeastProduct = 1e-300, kLargestProduct = 1e300;

  // Reads the row, and takes its masses if they are needed at once.
  bool Open(size_t line) {
    const bool is_drawn = line == p_.line_count && p_.draws > 0;
    const bool is_top_p = line < p_.line_count && p_.lines[line].filter == Filter::kTopP;
    if (p_.n <= kShortRow || !(is_drawn || is_top_p)) return passes_.Open(row_, &range_);
    if (!passes_.OpenWithMasses(row_, temperature_, &range_, &sums_)) return false;
    has_sums_ = !sums_.empty();
    return true;
  }

  // ---- steps ----

  // Whether a step is a temperature that leaves all classes.
  bool IsPlainTemperature(const FilterLine& line) const {
    return line.filter == Filter::kTemperature && line.number[row_] != 0.0;
  }

  void Apply(const FilterLine& line) {
    if (line.filter != Filter::kTopP || has_left_) has_sums_ = false;
    has_left_ = false;
    const double number = line.number[row_];
    switch (line.filter) {
      case Filter::kTemperature: return ApplyTemperature(number);
      case Filter::kTopK: return TopK(number, line.rule != 0);
      case Filter::kTopP: return TopP(number);
      case Filter::kMinP: return MinP(number, line.rule != 0);
      case Filter::kTypicalP: return TypicalP(number, line.rule != 0);
      case Filter::kEpsilon: return AtLeast([&](double total, double) { return number * total; }, false);
      case Filter::kEta:
        return AtLeast([&](double total,
                           double entropy) { return std::min(number, std::sqrt(number) * std::exp(-entropy)) * total; },
                       true);
      case Filter::kTopNSigma: return TopNSigma(number);
      case Filter::kTopH: return TopH(number);
      case Filter::kXtc: return Xtc(number, line.other[row_], static_cast<size_t>(line.rule));
    }
  }

  void ApplyTemperature(double t) {
    if (t == 0.0) TopK(1.0, false);
    else temperature_ = std::clamp(temperature_ * t, kLeastProduct, kLargestProduct);
  }

  // A single class has the same probability at any temperature, and keeps its logit at 0.
  double Unit() const { return temperature_; }

  void TopK(double k, bool all_ties) {
    if (is_few_) return few_.TopK(k, all_ties);
    if (!(k < static_cast<double>(p_.n))) return;
    if (k <= static_cast<double>(kFew) && TopFew(static_cast<size_t>(k), all_ties)) return;
    const size_t count = passes_.Count(range_);
    if (k >= static_cast<double>(count)) return;
    const Cut<T> cut = Search().OfCount(range_, k, static_cast<double>(count));
    CutAfter(all_ties ? Cut<T>{cut.x, p_.n - 1} : cut);
    if (k <= static_cast<double>(kFew)) CollectFew();
  }

  bool TopFew(size_t k, bool all_ties) {
    if (!CollectTop(k)) return false;
    few_.SelectTop(k, all_ties);
    return is_few_ = true;
  }

  // Lists the likeliest classes, at least k if there are as many. The k-th largest maximum of some groups is a bound below
  // the k-th largest logit. False if that are too many.
  bool CollectTop(size_t k) {
    const std::vector<T>& maxima = passes_.GroupMaxima();
    T bound = range_.lo;
    if (!is_hi_cut_ && maxima.size() >= k) {
      const size_t width = std::max<size_t>(maxima.size() / (4 * k), 1);
      largest_.clear();
      for (size_t g = 0; g < maxima.size(); g += width) {
        const auto first = maxima.begin() + static_cast<ptrdiff_t>(g);
        largest_.push_back(
            *std::max_element(first, first + static_cast<ptrdiff_t>(std::min(width, maxima.size() - g))));
      }
      const auto last = largest_.begin() + static_cast<ptrdiff_t>(k - 1);
      std::nth_element(largest_.begin(), last, largest_.end(), std::greater<>());
      bound = std::max(bound, *last);
    } else if (p_.n > kFound / 4) {
      return false;
    }
    if (!passes_.Collect(passes_.Within(range_, bound, range_.hi), Found())) return false;
    few_.Clear();
    for (size_t i = 0; i < found_.count; ++i) few_.Add({static_cast<double>(x_[i]), place_[i]});
    return true;
  }

  void TopP(double p) {
    if (p == 1.0) return;
    if (is_few_) return few_.TopP(p, Unit());
    passes_.SetUnit(range_, temperature_);
    TakeSums();
    const double total = RowPasses<T>::Sum(sums_);
    if (TopFewOfMass(p, total) || TopPBySplit(p, total)) return;
    CutAfter(Search().OfMass(range_, p, temperature_, sums_));
    has_sums_ = false;
    if (!Search().HasCount() || Search().Kept() <= kFew) CollectFew();
  }

  // The masses of groups of what is left; the unit is set.
  void TakeSums() {
    if (!has_sums_) passes_.Masses(range_, false, &sums_);
    has_sums_ = true;
  }

  bool TopPBySplit(double p, double total) {
    if (1.0 - p < kLeastLeftOut) return false;
    if (!mass_split_) mass_split_.emplace(&passes_);
    Cut<T> cut;
    if (!mass_split_->Find(range_, p, temperature_, total, &cut, &left_)) return false;
    CutAfter(cut);
    has_left_ = true;
    if (left_.count <= kFew) CollectFew();
    return true;
  }

  // Often a few classes have most of the mass. False if they do not.
  bool TopFewOfMass(double p, double total) {
    if (is_hi_cut_ || passes_.MassOfMaxima() < p * total) return false;
    if (!CollectTop(kTopFew) || few_.Size() > kFew) return false;
    few_.Sort();
    const std::vector<double>& terms = few_.Terms(Unit());
    // Whether some sum is too near to the border for a fast total.
    const double margin = p * total * passes_.Error();
    double sum = 0.0;
    bool is_near = false;
    for (const double term : terms) is_near |= std::abs((sum += term) - p * total) <= margin;
    if (is_near) total = passes_.Mass(range_, true);
    size_t count = 0;
    sum = 0.0;
    while (count < few_.Size() && sum < p * total) sum += terms[count++];
    if (sum < p * total) return false;
    few_.Keep(0, count);
    return is_few_ = true;
  }

  void MinP(double p, bool by_logarithm) {
    if (p == 0.0) return;
    const double max = is_few_ ? few_[0].x : static_cast<double>(range_.hi);
    const double bound = max + std::log(p) * temperature_;
    if (by_logarithm) return FromLogit(bound);
    if (is_few_) return few_.AtLeast(p, Unit());
    FromTerm(bound, p);
  }

  // Keeps the classes whose term is at least `least`, a number that depends on the sum of terms and the entropy.
  template <class Least>
  void AtLeast(Least least, bool with_entropy) {
    if (is_few_) {
      few_.Terms(Unit());
      return few_.AtLeast(least(few_.Total(), with_entropy ? few_.Entropy(Unit()) : 0.0), Unit());
    }
    double total = 0.0, entropy = 0.0;
    if (with_entropy) entropy = Entropy(&total);
    else total = ExactTotal();
    const double bound = least(total, entropy);
    FromTerm(static_cast<double>(range_.hi) + std::log(bound) * temperature_, std::min(bound, 1.0));
  }

  // Keeps the classes whose exact term is at least `least`, that is whose logit is about `bound`.
  void FromTerm(double bound, double least) {
    passes_.SetUnit(range_, temperature_);
    const auto term = [&](T x) {
      double e;
      passes_.ExactTerms(&x, 1, &e);
      return e;
    };
    T lo = std::clamp(static_cast<T>(bound), range_.lo, range_.hi);
    for (int i = 0; i < 64 && lo > range_.lo && term(NextBelow(lo)) >= least; ++i) lo = NextBelow(lo);
    for (int i = 0; i < 64 && lo < range_.hi && term(lo) < least; ++i) lo = NextAbove(lo);
    RaiseTo(lo);
  }

  void FromLogit(double bound) {
    if (is_few_) return few_.FromLogit(bound);
    // The least number of that type that is not below the bound.
    T lo = std::clamp(static_cast<T>(bound), range_.lo, range_.hi);
    if (static_cast<double>(lo) < bound && lo < range_.hi) lo = NextAbove(lo);
    RaiseTo(lo);
  }

  void RaiseTo(T lo) {
    range_ = passes_.Within(range_, lo, range_.hi);
    CollectFew();
  }

  void TopNSigma(double n) {
    if (is_few_) return few_.TopNSigma(n);
    const double max = static_cast<double>(range_.hi);
    double count = 0.0, sum = 0.0, squares = 0.0;
    passes_.ForRuns(range_, false, [&](const T* x, size_t, size_t size, T lo, T hi) {
      for (size_t i = 0; i < size; ++i) {
        if (x[i] < lo || x[i] > hi) continue;
        count += 1.0;
        sum += max - static_cast<double>(x[i]);
      }
      return true;
    });
    const double mean = sum / count;
    passes_.ForRuns(range_, false, [&](const T* x, size_t, size_t size, T lo, T hi) {
      for (size_t i = 0; i < size; ++i) {
        if (x[i] < lo || x[i] > hi) continue;
        const double distance = max - static_cast<double>(x[i]) - mean;
        squares += distance * distance;
      }
      return true;
    });
    FromLogit(max - n * std::sqrt(squares / count));
  }

  void TopH(double h) {
    TopK(static_cast<double>(kTopHClasses), false);
    if (!is_few_) CollectFew();
    few_.TopH(h, Unit());
  }

  void TypicalP(double mass, bool strictly) {
    if (mass == 1.0) return;
    if (is_few_) return few_.TypicalP(mass, strictly, Unit());
    passes_.SetUnit(range_, temperature_);
    if (!typical_) typical_.emplace(&passes_);
    const T hi = range_.hi;
    if (!typical_->Narrow(&range_, mass, temperature_, strictly)) {
      CollectAll();
      return few_.TypicalP(mass, strictly, Unit());
    }
    is_hi_cut_ |= range_.hi < hi;
    CollectFew();
  }

  void Xtc(double probability, double threshold, size_t place) {
    if (!(ShareOf(Philox(key_, counter_, Purpose::kFilter, place).Lower()) < probability)) return;
    if (is_few_) return few_.Xtc(threshold, Unit());
    // At most 1 / threshold classes are above it.
    const double total = ExactTotal();
    const double bound = static_cast<double>(range_.hi) + std::log(threshold * total) * temperature_;
    const T lo = std::clamp(static_cast<T>(bound), range_.lo, range_.hi);
    std::vector<Class> above;
    passes_.ForTerms(passes_.Within(range_, NextBelow(lo), range_.hi), [&](double x, double term, size_t id) {
      if (term >= threshold * total) above.push_back({x, static_cast<int64_t>(id)});
    });
    if (above.size() < 2) return;
    const Class last = *std::max_element(above.begin(), above.end(), IsLikelier);
    range_.hi = static_cast<T>(last.x);
    range_.hi_id = static_cast<size_t>(last.id);
    is_hi_cut_ = true;
  }

  // ---- the range ----

  CutSearch<T>& Search() {
    if (!search_) search_.emplace(&passes_);
    return *search_;
  }
  FoundElements<T>* Found() {
    const size_t most = std::min(p_.n, kFound);
    if (!x_) {
      x_ = std::make_unique_for_overwrite<T[]>(most + kRoom);
      place_ = std::make_unique_for_overwrite<uint32_t[]>(most + kRoom);
    }
    found_ = {x_.get(), place_.get(), most, 0, 0};
    return &found_;
  }

  void CutAfter(const Cut<T>& cut) {
    if (cut.x > range_.lo) range_.lo_id = p_.n - 1;
    range_.lo = cut.x;
    range_.lo_id = std::min(range_.lo_id, cut.id);
  }

  // Lists the classes if they are few.
  void CollectFew() {
    Found();
    found_.most = std::min(kFew, found_.most);
    if (!passes_.Collect(range_, &found_)) return;
    few_.Clear();
    for (size_t i = 0; i < found_.count; ++i) few_.Add({static_cast<double>(x_[i]), place_[i]});
    few_.Sort();
    is_few_ = true;
  }
  void CollectAll() {
    few_.Clear();
    passes_.SetUnit(range_, temperature_);
    passes_.ForTerms(range_, [&](double x, double, size_t id) { few_.Add({x, static_cast<int64_t>(id)}); });
    few_.Sort();
    is_few_ = true;
  }

  double ExactTotal() {
    passes_.SetUnit(range_, temperature_);
    return passes_.Mass(range_, true);
  }
  // The entropy, and the sum of exact terms.
  double Entropy(double* total) {
    passes_.SetUnit(range_, temperature_);
    double weighted = 0.0;
    passes_.ExactMoments(range_, total, &weighted);
    return std::log(*total) + weighted / *total;
  }

  const SampleProblem& p_;
  RowPasses<T> passes_;
  const PhiloxKey key_;
  std::optional<CutSearch<T>> search_;
  std::optional<MassSplit<T>> mass_split_;
  std::optional<TypicalSearch<T>> typical_;
  Range<T> range_ = {};
  bool is_few_ = false, is_hi_cut_ = false;
  bool has_sums_ = false;  // sums_ are the masses of groups: of what is left, or was before top_p
  bool has_left_ = false;  // left_ is what top_p left of that
  Left left_ = {};
  FewClasses few_;
  size_t row_ = 0;
  uint64_t counter_ = 0;
  double temperature_ = 1.0;
  std::unique_ptr<T[]> x_;
  std::unique_ptr<uint32_t[]> place_;
  std::vector<T> largest_;
  FoundElements<T> found_ = {};
  std::vector<double> sums_;
};

}  // namespace boltzmax
