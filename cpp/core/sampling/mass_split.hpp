// The cut of top_p, given the mass of the row: a sample suggests a bracket around the cut, and one pass takes the mass
// above it and what is in it.
#pragma once

#include <algorithm>

#include "bracket.hpp"
#include "found_cut.hpp"

namespace boltzmax {

// What is left of a row: a number of classes, and their mass.
struct Left {
  size_t count;
  double mass;
};

template <class T>
class MassSplit {
 public:
  explicit MassSplit(RowPasses<T>* passes)
      : passes_(*passes),
        sample_(passes),
        split_(MostFound(passes->Length())),
        cut_(passes, MostFound(passes->Length())) {}

  // The class with which the mass is first at least p of the whole, below 1; `total` is the sum of fast masses. False if
  // other passes are necessary.
  bool Find(const Range<T>& range, double p, double temperature, double total, Cut<T>* cut, Left* left) {
    sample_.Take(range, true);
    const double excess = total - p * total, part = sample_.Part();
    const T floor = FloorOfMass(passes_, range, p, temperature);
    for (const double spread : {1.0, 4.0}) {
      const Bracket<T> bracket =
          sample_.Suggest(range, floor, {excess * part, (total - excess) * part, kUncertain, spread});
      if (!IsSmall(bracket) || !passes_.CanSplit(range, bracket)) return false;
      if (!passes_.Split(bracket, &split_)) return false;
      if (Resolve(range, excess, total, cut, left)) return true;
    }
    return false;
  }

 private:
  static constexpr double kMostSampled = 0.9;  // of what fits, in a sample
  static constexpr double kUncertain = 0.01;

  // An eighth of a row is less than what fits in the second-level cache.
  static size_t MostFound(size_t n) { return std::clamp<size_t>(n / 8, 4096, 65536); }

  bool IsSmall(const Bracket<T>& bracket) const {
    const auto most = static_cast<double>(MostFound(passes_.Length()));
    return sample_.CountIn(bracket) <= kMostSampled * most * sample_.Part();
  }

  // False if the cut is not in the bracket, or depends on the errors of sums. Those of terms are the same in all sums, so
  // that only those of the terms that are left out matter.
  bool Resolve(const Range<T>& range, double excess, double total, Cut<T>* cut, Left* left) {
    const FoundBetween<T> found = {split_.Data(), nullptr, split_.Count(), split_.Within()};
    const double below = total - passes_.InUnits(split_.Mass());
    const double margin = 2.0 * excess * passes_.Error() + passes_.Rounding() * total;
    if (below > excess + margin) return false;
    Cut<T> last;  // its id is its place among what was found
    if (cut_.Resolve(found, true, {excess, below, margin, EstimateInside(found)}, &last) != Outcome::kFound)
      return false;
    const auto kept = cut_.CountKept(found, last);
    const Range<T> ties = RowPasses<T>::Within(range, last.x, last.x);
    *cut = {last.x, kept.kept_equal == kept.equal ? passes_.Length() - 1 : passes_.PlaceOf(ties, kept.kept_equal)};
    left->count = split_.CountAbove() + kept.Count();
    // A difference of sums of the same terms, so that only the errors of what is left matter.
    left->mass = passes_.InUnits(split_.Mass()) -
                 passes_.MassOf(found.x, found.count, found.bracket.lo, last.x, false) +
                 static_cast<double>(kept.kept_equal) * cut_.MassOf(last.x);
    return true;
  }

  // Roughly the mass of what was found.
  double EstimateInside(const FoundBetween<T>& found) const {
    return static_cast<double>(found.count) * cut_.MassOf(found.bracket.lo / 2 + found.bracket.hi / 2);
  }

  RowPasses<T>& passes_;
  RowSample<T> sample_;
  RowSplit<T> split_;
  FoundCut<T> cut_;
};

}  // namespace boltzmax
