// Where to cut a row so that what is below, the likelier classes being above, has a given count, or a given mass.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "bracket.hpp"
#include "found_cut.hpp"

namespace boltzmax {

// A sample of the row suggests a bracket: two logits with the cut between them. One pass sums what is below and collects
// what is between; the cut is then found among a few thousand classes. If the sample was misleading, the next bracket is
// wider, or narrower.
//
// The cut leaves out as much as it may from below, where sums are small and their errors, too.
template <class T>
class CutSearch {
 public:
  explicit CutSearch(RowPasses<T>* passes)
      : passes_(*passes), sample_(passes), found_cut_(passes, kMost), x_(kMost + kRoom), place_(kMost + kRoom) {
    found_ = {x_.data(), place_.data(), kMost, 0, 0};
  }

  // The k-th likeliest class; there are `count`, more than k.
  Cut<T> OfCount(const Range<T>& range, double k, double count) {
    by_mass_ = false;
    total_ = count;
    count_excess_ = count - k;
    return Find(range, count_excess_, 0.0);
  }

  // The class with which the mass is first at least p of the whole, below 1; `sums` are the masses of groups in the
  // unit that is set.
  Cut<T> OfMass(const Range<T>& range, double p, double temperature, const std::vector<double>& sums) {
    by_mass_ = true;
    p_ = p;
    temperature_ = temperature;
    groups_ = sums.size();
    total_ = RowPasses<T>::Sum(sums);
    const double excess = total_ - p * total_;
    return Find(range, excess, 2.0 * excess * passes_.Error() + kRounding * total_);
  }

  // Whether the last search counted the classes down to the cut, and their number.
  bool HasCount() const { return has_count_; }
  size_t Kept() const { return kept_; }

 private:
  static constexpr size_t kMost = 16384, kRoom = 64;
  static constexpr int kRounds = 12;
  static constexpr double kRounding = 0x1p-50;
  static constexpr double kUncertain = 0.01;

  // `excess` is what may be left out.
  Cut<T> Find(const Range<T>& range, double excess, double margin) {
    has_count_ = false;
    sample_.Take(range, by_mass_);
    Range<T> open = range;  // the cut is in it
    double spread = 1.0;
    Bracket<T> bracket = sample_.Suggest(open, Floor(open), Wanted(excess, kUncertain, spread));
    for (int round = 0; round < kRounds; ++round) {
      const bool fits = Pass(range, bracket);
      if (below_ > excess + margin) {
        open = passes_.Within(open, open.lo, NextBelow(bracket.lo));
      } else if (!fits) {
        if (bracket.lo == bracket.hi) return OfTies(range, bracket.lo, excess, margin);
        open = passes_.Within(open, bracket.lo, bracket.hi);
        // What was found before there were too many is a sample of the bracket.
        sample_.TakeFound(x_.data(), found_.count);
        const double covered = static_cast<double>(place_[found_.count - 1]) + 1.0;
        const double rest = std::max(excess - below_, 0.0) * covered / static_cast<double>(passes_.Length());
        const double infinity = std::numeric_limits<double>::infinity();
        bracket = sample_.Suggest(open, Floor(open), {rest, infinity, kUncertain, spread = 0.25});
        continue;
      } else {
        Cut<T> cut;
        const Outcome outcome = Resolve(excess, margin, &cut);
        if (outcome == Outcome::kFound) return cut;
        if (outcome == Outcome::kNear) return Exactly(range, bracket);
        open = passes_.Within(open, NextAbove(bracket.hi), open.hi);
      }
      spread *= 4.0;
      bracket = round < 2 ? sample_.Suggest(open, Floor(open), Wanted(excess, kUncertain, spread)) : Halve(open);
    }
    return BySorting(range);
  }

  WantedMass Wanted(double excess, double uncertain, double spread) const {
    return {excess * sample_.Part(), (total_ - excess) * sample_.Part(), uncertain, spread};
  }

  // Elements below this matter little.
  T Floor(const Range<T>& open) const { return by_mass_ ? FloorOfMass(passes_, open, p_, temperature_) : open.lo; }

  // The upper half of what is open.
  static Bracket<T> Halve(const Range<T>& open) {
    const T middle = open.lo / 2 + open.hi / 2;
    return {std::clamp(middle, open.lo, open.hi), open.hi};
  }

  double WeightOf(T x) const {
    double weight = 1.0;
    if (by_mass_) passes_.ExactTerms(&x, 1, &weight);
    return weight;
  }

  // Sums what is below a bracket, collects what is in it, and counts what is above. False if there is too much in it.
  bool Pass(const Range<T>& range, const Bracket<T>& bracket) {
    bracket_ = bracket;
    below_sums_.assign(by_mass_ ? groups_ : 0, 0.0);
    found_.count = found_.above = 0;
    bool fits = true;
    const T bound = NextBelow(bracket.lo);
    passes_.ForRuns(range, false, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
      if (by_mass_ && bound >= lo) passes_.AddMasses(x, begin, n, lo, std::min(bound, hi), below_sums_.data());
      if (fits)
        fits = passes_.CollectRun(x, begin, n, {std::max(lo, bracket.lo), std::min(hi, bracket.hi), hi}, &found_);
      return true;
    });
    if (by_mass_) {
      passes_.Scale(&below_sums_);
      below_ = RowPasses<T>::Sum(below_sums_);
    } else if (fits) {
      below_ = total_ - static_cast<double>(found_.above + found_.count);
    } else {
      below_ = static_cast<double>(passes_.Count(passes_.Within(range, range.lo, bound)));
    }
    return fits;
  }

  // Looks for the cut among what was found.
  Outcome Resolve(double excess, double margin, Cut<T>* cut) {
    const FoundBetween<T> found = {x_.data(), place_.data(), found_.count, bracket_};
    const double inside = by_mass_ ? 0.0 : static_cast<double>(found_.count);
    const Outcome outcome = found_cut_.Resolve(found, by_mass_, {excess, below_, margin, inside}, cut);
    if (outcome == Outcome::kFound) {
      kept_ = found_.above + found_cut_.CountKept(found, *cut).Count();
      has_count_ = true;
    }
    return outcome;
  }

  double ExactBelow(const Range<T>& range, T lo) {
    const T bound = NextBelow(lo);
    return bound < range.lo ? 0.0 : passes_.Mass(passes_.Within(range, range.lo, bound), true);
  }

  Cut<T> Exactly(const Range<T>& range, const Bracket<T>& bracket) {
    total_ = passes_.Mass(range, true);
    below_ = ExactBelow(range, bracket.lo);
    const double excess = total_ - p_ * total_;
    Cut<T> cut;
    if (below_ <= excess && Resolve(excess, 0.0, &cut) == Outcome::kFound) return cut;
    return BySorting(range);
  }

  // The cut is among the elements equal to x, which are too many to be collected.
  Cut<T> OfTies(const Range<T>& range, T x, double excess, double margin) {
    const double weight = WeightOf(x);
    const Range<T> ties = passes_.Within(range, x, x);
    const auto count = static_cast<double>(passes_.Count(ties));
    const auto fitting = [&](double mass) { return std::floor((mass - below_) / weight); };
    // Fast sums will do unless the number of ties that are left out depends on their errors.
    if (fitting(excess - margin) != fitting(excess + margin)) {
      below_ = ExactBelow(range, x);
      const double above = x < range.hi ? passes_.Mass(passes_.Within(range, NextAbove(x), range.hi), true) : 0.0;
      total_ = below_ + count * weight + above;
      excess = total_ - p_ * total_;
    }
    const double left_out = fitting(excess);
    if (!(left_out >= 0.0 && left_out < count)) return BySorting(range);
    return {x, passes_.PlaceOf(ties, static_cast<size_t>(count - left_out))};
  }

  // The last resort.
  Cut<T> BySorting(const Range<T>& range) {
    entries_.clear();
    double total = 0.0;
    passes_.ForTerms(range, [&](double x, double term, size_t id) {
      const double weight = by_mass_ ? term : 1.0;
      entries_.push_back({static_cast<T>(x), static_cast<uint32_t>(id), weight});
      total += weight;
    });
    std::sort(entries_.begin(), entries_.end());
    const double excess = by_mass_ ? total - p_ * total : count_excess_;
    double below = 0.0;
    size_t i = 0;
    while (i + 1 < entries_.size() && below + entries_[i].weight <= excess) below += entries_[i++].weight;
    return {entries_[i].x, entries_[i].place};
  }

  // The least likely ones first.
  struct Entry {
    T x;
    uint32_t place;
    double weight;

    bool operator<(const Entry& other) const { return x < other.x || (x == other.x && place > other.place); }
  };

  RowPasses<T>& passes_;
  bool by_mass_ = false, has_count_ = false;
  double temperature_ = 1.0, p_ = 0.0, total_ = 0.0, below_ = 0.0, count_excess_ = 0.0;
  size_t kept_ = 0, groups_ = 0;
  RowSample<T> sample_;
  FoundCut<T> found_cut_;
  Bracket<T> bracket_ = {};  // of what was found
  std::vector<T> x_;
  std::vector<uint32_t> place_;
  std::vector<double> below_sums_;
  std::vector<Entry> entries_;
  FoundElements<T> found_ = {};
};

}  // namespace boltzmax
