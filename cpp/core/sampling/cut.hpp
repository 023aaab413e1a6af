// Where to cut a row so that what is below, the likelier classes being above, has a given count, or a given mass.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "bracket.hpp"

namespace boltzmax {

// The last class that is kept.
template <class T>
struct Cut {
  T x;
  size_t id;
};

// A sample of the row suggests a bracket: two logits with the cut between them. One pass sums what is below and collects
// what is between; the cut is then found among a few thousand classes. If the sample was misleading, the next bracket is
// wider, or narrower.
//
// The cut leaves out as much as it may from below, where sums are small and their errors, too.
template <class T>
class CutSearch {
 public:
  explicit CutSearch(RowPasses<T>* passes) : passes_(*passes), sample_(passes) {
    x_.resize(kMost + kRoom);
    place_.resize(kMost + kRoom);
    found_ = {x_.data(), place_.data(), kMost, 0, 0};
    for (Part& part : narrowed_) {
      part.x.resize(kMost + kRoom);
      part.place.resize(kMost + kRoom);
    }
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

  // The same, if one pass over the row is enough, and if the largest elements of `few` groups have less than that mass.
  // False if not.
  bool OfMassInOnePass(const Range<T>& range, double p, double temperature, size_t few, Cut<T>* cut) {
    by_mass_ = true;
    has_count_ = false;
    p_ = p;
    temperature_ = temperature;
    sample_.Take(range, true);
    const auto mass = sample_.EstimateMass(few);
    if (mass.share_of_few >= p) return false;
    total_ = mass.total;
    bracket_ = sample_.Suggest(range, Floor(range), Wanted(total_ - p * total_, kUncertain + mass.uncertain, 1.0));
    if (sample_.CountIn(bracket_) > kMostSampled * static_cast<double>(kMost) * sample_.Part()) return false;
    if (!passes_.Split(bracket_.lo, bracket_.hi, &found_, &above_sums_, &below_)) return false;
    total_ = below_ + RowPasses<T>::Sum(above_sums_) +
             passes_.MassOf(x_.data(), found_.count, bracket_.lo, bracket_.hi, false);
    const double left_out = total_ - p * total_, margin = 2.0 * left_out * passes_.Error() + kRounding * total_;
    return below_ <= left_out + margin && Resolve(left_out, margin, cut) == Outcome::kFound;
  }
  // The masses of groups, without what is below the cut, after OfMassInOnePass.
  const std::vector<double>& KeptSums(const Cut<T>& cut) {
    const T above = NextAbove(cut.x);
    for (size_t i = 0, end; i < found_.count; i = end) {
      const size_t group = place_[i] / kSampleGroup;
      for (end = i; end < found_.count && place_[end] / kSampleGroup == group;) ++end;
      above_sums_[group] += passes_.MassOfGroup(x_.data() + i, end - i, above, bracket_.hi);
    }
    const double term = WeightOf(cut.x);
    ForKeptTies(cut, [&](size_t place) { above_sums_[place / kSampleGroup] += term; });
    return above_sums_;
  }

  // Whether the last search counted the classes down to the cut, and their number.
  bool HasCount() const { return has_count_; }
  size_t Kept() const { return kept_; }

 private:
  static constexpr size_t kMost = 16384, kRoom = 64;
  static constexpr size_t kSorted = 48;
  static constexpr int kRounds = 12;
  static constexpr double kRounding = 0x1p-50;
  static constexpr double kMostSampled = 0.9;  // of what fits, in a sample
  static constexpr double kUncertain = 0.01;

  enum class Outcome : uint8_t { kFound, kNear, kHigher };

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

  // Elements below this have together less than a third of the mass below the cut.
  T Floor(const Range<T>& open) const {
    if (!by_mass_) return open.lo;
    const double depth = std::log(static_cast<double>(passes_.Length()) / std::max(1.0 - p_, 0x1p-53)) + 1.0;
    const double floor = passes_.Max() - depth * temperature_;
    return floor > static_cast<double>(open.lo) ? static_cast<T>(floor) : open.lo;
  }

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

  // Looks for the cut among what was found. First the bracket is halved until it has few elements. Without a margin, sums
  // are exact.
  Outcome Resolve(double excess, double margin, Cut<T>* cut) {
    const bool exactly = !(margin > 0.0);
    const T* x = x_.data();
    const uint32_t* place = place_.data();
    size_t n = found_.count, count = n;  // of what the cut may be among, and between the bounds
    double below = below_;
    T lo = bracket_.lo, hi = passes_.LargestOf(x, n, bracket_.hi);
    for (int halving = 0, narrowed = 0; count > kSorted && halving < 64; ++halving) {
      const T middle = lo / 2 + hi / 2;
      if (!(lo <= middle && middle < hi)) break;
      const size_t up_to = passes_.CountOf(x, n, lo, middle);
      double sum = static_cast<double>(up_to);
      if (by_mass_) {
        sum = passes_.MassOf(x, n, lo, middle, exactly);
        margin += exactly ? 0.0 : sum * passes_.Error();
      }
      if (below + sum <= excess) {
        below += sum;
        count -= up_to;
        lo = NextAbove(middle);
      } else {
        count = up_to;
        hi = passes_.LargestOf(x, n, middle);
      }
      if (up_to == 0 && passes_.CountOf(x, n, hi, hi) == count) lo = hi;  // ties
      if (4 * count > n) continue;
      Part& part = narrowed_[narrowed++ % 2];
      n = Narrow(x, place, n, lo, hi, &part);
      x = part.x.data();
      place = part.place.data();
    }
    entries_.clear();
    for (size_t i = 0; i < n; ++i) {
      if (x[i] >= lo && x[i] <= hi) entries_.push_back({x[i], place[i], 1.0});
    }
    if (lo == hi && !entries_.empty()) return AmongTies(excess - below, margin, cut);
    std::sort(entries_.begin(), entries_.end());
    for (const Entry& e : entries_) {
      const double weight = WeightOf(e.x);
      if (below + weight <= excess) {
        below += weight;
        continue;
      }
      if (!exactly && (below >= excess - margin || below + weight <= excess + margin)) return Outcome::kNear;
      return FoundAt({e.x, e.place}, cut);
    }
    return below >= excess - margin && !exactly ? Outcome::kNear : Outcome::kHigher;
  }
  Outcome FoundAt(const Cut<T>& at, Cut<T>* cut) {
    *cut = at;
    CountKept(at);
    return Outcome::kFound;
  }
  // All entries are equal, in the order of their places.
  Outcome AmongTies(double excess, double margin, Cut<T>* cut) {
    const double weight = WeightOf(entries_[0].x), left_out = std::floor(excess / weight);
    if (std::floor((excess - margin) / weight) != std::floor((excess + margin) / weight)) return Outcome::kNear;
    if (left_out < 0.0) return Outcome::kNear;
    if (left_out >= static_cast<double>(entries_.size())) return Outcome::kHigher;
    const Entry& last = entries_[entries_.size() - 1 - static_cast<size_t>(left_out)];
    return FoundAt({last.x, last.place}, cut);
  }

  // Copies the elements between two bounds; returns their number.
  struct Part {
    std::vector<T> x;
    std::vector<uint32_t> place;
  };
  size_t Narrow(const T* x, const uint32_t* place, size_t n, T lo, T hi, Part* part) {
    FoundElements<T> found = {part->x.data(), part->place.data(), n, 0, 0};
    passes_.CollectRun(x, 0, n, {lo, hi, hi}, &found);
    for (size_t i = 0; i < found.count; ++i) found.place[i] = place[found.place[i]];
    return found.count;
  }

  // Makes the number of classes above the bracket that of the classes that are kept.
  void CountKept(const Cut<T>& cut) {
    kept_ = found_.above + passes_.CountOf(x_.data(), found_.count, NextAbove(cut.x), bracket_.hi);
    ForKeptTies(cut, [&](size_t) { ++kept_; });
    has_count_ = true;
  }
  // Calls f(place) for the elements that were found, equal the cut, and are kept.
  template <class F>
  void ForKeptTies(const Cut<T>& cut, F f) {
    Part& ties = narrowed_[0];
    const size_t count = Narrow(x_.data(), place_.data(), found_.count, cut.x, cut.x, &ties);
    for (size_t i = 0; i < count && ties.place[i] <= cut.id; ++i) f(ties.place[i]);
  }

  // Replaces fast sums by exact ones: of the whole, and below a logit.
  double ExactSums(const Range<T>& range, T lo) {
    total_ = passes_.Mass(range, true);
    const T bound = NextBelow(lo);
    below_ = bound < range.lo ? 0.0 : passes_.Mass(passes_.Within(range, range.lo, bound), true);
    return total_ - p_ * total_;
  }

  Cut<T> Exactly(const Range<T>& range, const Bracket<T>& bracket) {
    const double excess = ExactSums(range, bracket.lo);
    Cut<T> cut;
    if (below_ <= excess && Resolve(excess, 0.0, &cut) == Outcome::kFound) return cut;
    return BySorting(range);
  }

  // The cut is among the elements equal to x, which are too many to be collected.
  Cut<T> OfTies(const Range<T>& range, T x, double excess, double margin) {
    const double weight = WeightOf(x);
    const auto fitting = [&](double mass) { return std::floor((mass - below_) / weight); };
    // Fast sums will do unless the number of ties that are left out depends on their errors.
    if (fitting(excess - margin) != fitting(excess + margin)) excess = ExactSums(range, x);
    const Range<T> ties = passes_.Within(range, x, x);
    const auto count = static_cast<double>(passes_.Count(ties));
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
  Bracket<T> bracket_ = {};  // of what was found
  std::vector<T> x_;
  std::vector<uint32_t> place_;
  std::vector<double> below_sums_, above_sums_;
  Part narrowed_[2];
  std::vector<Entry> entries_;
  FoundElements<T> found_ = {};
};

}  // namespace boltzmax
