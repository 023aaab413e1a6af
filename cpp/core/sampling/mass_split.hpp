// The cut of top_p by one pass over a row: a sample and the maxima of groups suggest the mass of the row, and a bracket
// around the cut.
#pragma once

#include <algorithm>
#include <vector>

#include "bracket.hpp"
#include "found_cut.hpp"

namespace boltzmax {

template <class T>
class MassSplit {
 public:
  explicit MassSplit(RowPasses<T>* passes)
      : passes_(*passes),
        sample_(passes),
        split_(MostFound(passes->Length())),
        cut_(passes, MostFound(passes->Length())) {}

  // The class with which the mass is first at least p of the whole, below 1. False if another pass would be necessary,
  // or if the largest elements of `few` groups have that mass.
  bool Find(const Range<T>& range, double p, double temperature, size_t few, Cut<T>* cut) {
    sample_.Take(range, true);
    const auto mass = sample_.EstimateMass();
    if (mass.share_of_largest >= p && sample_.MassOfLargest(few) >= p * mass.total) return false;
    const double excess = mass.total - p * mass.total, part = sample_.Part();
    const Bracket<T> bracket =
        sample_.Suggest(range, FloorOfMass(passes_, range, p, temperature),
                        {excess * part, (mass.total - excess) * part, kUncertain + mass.uncertain, 1.0});
    const auto most = static_cast<double>(MostFound(passes_.Length()));
    if (sample_.CountIn(bracket) > kMostSampled * most * part || !passes_.Split(bracket, &split_)) return false;
    const double below = RowPasses<T>::Sum(split_.Below());
    const double inside = passes_.MassOf(split_.Data(), split_.Count(), bracket.lo, bracket.hi, false);
    const double total = below + RowPasses<T>::Sum(split_.Above()) + inside;
    const double left_out = total - p * total, margin = 2.0 * left_out * passes_.Error() + kRounding * total;
    if (below > left_out + margin) return false;
    if (cut_.Resolve(Found(), true, {left_out, below, margin, inside}, &last_) != Outcome::kFound) return false;
    *cut = {last_.x, split_.IdOf(last_.id, &passes_.Reader(), passes_.Length())};
    return true;
  }

  // The number of classes that are kept.
  size_t CountKept() { return split_.CountAbove() + cut_.CountKept(Found(), last_); }

  // The masses of what is kept: of the groups above the bracket, then of as many elements at a time in it.
  void KeptMasses(std::vector<double>* sums) {
    passes_.MassesOf(split_.Data(), split_.Count(), NextAbove(last_.x), split_.Within().hi, &inside_);
    const double term = cut_.MassOf(last_.x);
    cut_.ForKeptTies(Found(), last_, [&](size_t i) { inside_[i / kSampleGroup] += term; });
    *sums = split_.Above();
    sums->insert(sums->end(), inside_.begin(), inside_.end());
  }
  // Calls f(term, place, x) for the classes of one of those masses, with exact terms. IdOf finds the id of a place.
  template <class F>
  void ForTermsOf(const Range<T>& range, size_t i, F f) {
    const size_t groups = split_.Above().size();
    if (i < groups) return passes_.ForTermsOfGroup(RowPasses<T>::Above(range, split_.Within().hi), i, f);
    const size_t begin = (i - groups) * kSampleGroup, end = std::min(begin + kSampleGroup, split_.Count());
    double terms[kSampleGroup];
    passes_.ExactTerms(split_.Data() + begin, end - begin, terms);
    for (size_t j = begin; j < end; ++j) {
      const T x = split_.Data()[j];
      if (x < last_.x || (x == last_.x && j > last_.id)) continue;
      f(terms[j - begin], j, x);
    }
  }
  size_t IdOf(size_t i, size_t place) {
    return i < split_.Above().size() ? place : split_.IdOf(place, &passes_.Reader(), passes_.Length());
  }

 private:
  static constexpr double kMostSampled = 0.9;  // of what fits, in a sample
  static constexpr double kUncertain = 0.01, kRounding = 0x1p-50;

  // An eighth of a row is less than what fits in the second-level cache.
  static size_t MostFound(size_t n) { return std::clamp<size_t>(n / 8, 4096, 65536); }

  FoundBetween<T> Found() const { return {split_.Data(), nullptr, split_.Count(), split_.Within()}; }

  RowPasses<T>& passes_;
  RowSample<T> sample_;
  RowSplit<T> split_;
  FoundCut<T> cut_;
  Cut<T> last_ = {};  // the last element that is kept: its id is its place in the bracket
  std::vector<double> inside_;
};

}  // namespace boltzmax
