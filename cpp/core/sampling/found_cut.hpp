// Where to cut what was found of a row between two bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "row_passes.hpp"

namespace boltzmax {

// The last class that is kept.
template <class T>
struct Cut {
  T x;
  size_t id;
};

// Elements in the order of their places; without an array of places these are 0, 1, 2, ...
template <class T>
struct FoundBetween {
  const T* x;
  const uint32_t* place;
  size_t count;
  Bracket<T> bracket;
};

// What may be left out in all, what is left out below the bracket, and the error of that. In the bracket there is
// `inside` besides, 0 if that is not known.
struct LeftOut {
  double excess, below, margin, inside;
};

// kNear: it depends on the errors of sums. kHigher: the cut is above.
enum class Outcome : uint8_t { kFound, kNear, kHigher };

template <class T>
class FoundCut {
 public:
  FoundCut(RowPasses<T>* passes, size_t most) : passes_(*passes) {
    for (Part& part : narrowed_) {
      part.x.resize(most + kRoom);
      part.place.resize(most + kRoom);
    }
  }

  // Elements count by their mass, or each as one. The id of the cut is its place. Without a margin, sums are exact.
  Outcome Resolve(const FoundBetween<T>& found, bool by_mass, LeftOut left_out, Cut<T>* cut) {
    by_mass_ = by_mass;
    is_exact_ = !(left_out.margin > 0.0);
    x_ = found.x;
    place_ = found.place;
    n_ = count_ = found.count;
    lo_ = found.bracket.lo;
    hi_ = passes_.LargestOf(x_, n_, found.bracket.hi);
    left_out_ = left_out;
    part_ = 0;
    if (left_out.inside > 0.0) Guess();
    Halve();
    List();
    const double excess = left_out_.excess, margin = left_out_.margin;
    double below = left_out_.below;
    if (lo_ == hi_ && !entries_.empty()) return AmongTies(excess - below, margin, cut);
    std::sort(entries_.begin(), entries_.end());
    for (const Entry& e : entries_) {
      const double weight = WeightOf(e.x);
      if (below + weight <= excess) {
        below += weight;
        continue;
      }
      if (!is_exact_ && (below >= excess - margin || below + weight <= excess + margin)) return Outcome::kNear;
      *cut = {e.x, e.place};
      return Outcome::kFound;
    }
    return below >= excess - margin && !is_exact_ ? Outcome::kNear : Outcome::kHigher;
  }

  // The number of elements that are kept.
  size_t CountKept(const FoundBetween<T>& found, const Cut<T>& cut) {
    size_t kept = passes_.CountOf(found.x, found.count, NextAbove(cut.x), found.bracket.hi);
    ForKeptTies(found, cut, [&](size_t) { ++kept; });
    return kept;
  }
  // Calls f(i) for the elements that equal the cut, and are kept.
  template <class F>
  void ForKeptTies(const FoundBetween<T>& found, const Cut<T>& cut, F f) {
    const Part& ties = narrowed_[0];
    const size_t count = Narrow(found.x, nullptr, found.count, cut.x, cut.x, &narrowed_[0]);
    const auto place_of = [&](size_t i) { return found.place == nullptr ? i : found.place[i]; };
    for (size_t i = 0; i < count && place_of(ties.place[i]) <= cut.id; ++i) f(ties.place[i]);
  }

  // The weight of an element in masses.
  double MassOf(T x) const {
    double mass;
    passes_.ExactTerms(&x, 1, &mass);
    return mass;
  }

 private:
  static constexpr size_t kRoom = 64, kSorted = 48;
  static constexpr size_t kManyFound = 1024;
  static constexpr T kGuessed = T(0.1);  // how far from a guess the cut may be, as a part of the bracket

  struct Part {
    std::vector<T> x;
    std::vector<uint32_t> place;
  };
  // The least likely ones first.
  struct Entry {
    T x;
    uint32_t place;

    bool operator<(const Entry& other) const { return x < other.x || (x == other.x && place > other.place); }
  };

  double WeightOf(T x) const { return by_mass_ ? MassOf(x) : 1.0; }

  // The weight of the elements from lo to hi.
  double Weigh(const T* x, size_t n, T lo, T hi) {
    if (!by_mass_) return static_cast<double>(passes_.CountOf(x, n, lo, hi));
    return passes_.MassOf(x, n, lo, hi, is_exact_);
  }
  void LeaveOut(double sum) {
    left_out_.below += sum;
    left_out_.margin += is_exact_ || !by_mass_ ? 0.0 : sum * passes_.Error();
  }

  // The weight in a narrow bracket is nearly in proportion to its width: the cut is probably near where this says.
  void Guess() {
    const double share = (left_out_.excess - left_out_.below) / left_out_.inside;
    if (n_ < kManyFound || !(share > 0.0 && share < 1.0)) return;
    const T width = hi_ - lo_, guess = lo_ + static_cast<T>(share) * width;
    const T lo = std::max(lo_, guess - kGuessed * width), hi = std::min(hi_, guess + kGuessed * width);
    Part& part = narrowed_[part_];
    const size_t count = Narrow(x_, place_, n_, lo, hi, &part);
    const double sum = lo > lo_ ? Weigh(x_, n_, lo_, NextBelow(lo)) : 0.0;
    const double to_hi = left_out_.below + sum + Weigh(part.x.data(), count, lo, hi);
    if (count == 0 || left_out_.below + sum > left_out_.excess || to_hi <= left_out_.excess) return;
    LeaveOut(sum);
    lo_ = lo;
    UseOnly(part, count, hi);
    count_ = count;
  }

  // Halves the bracket until it has few elements.
  void Halve() {
    for (int halving = 0; count_ > kSorted && halving < 64; ++halving) {
      const T middle = lo_ / 2 + hi_ / 2;
      if (!(lo_ <= middle && middle < hi_)) break;
      const size_t up_to = passes_.CountOf(x_, n_, lo_, middle);
      const double sum = by_mass_ ? Weigh(x_, n_, lo_, middle) : static_cast<double>(up_to);
      if (left_out_.below + sum <= left_out_.excess) {
        LeaveOut(sum);
        count_ -= up_to;
        lo_ = NextAbove(middle);
      } else {
        count_ = up_to;
        hi_ = passes_.LargestOf(x_, n_, middle);
      }
      if (up_to == 0 && passes_.CountOf(x_, n_, hi_, hi_) == count_) lo_ = hi_;  // ties
      if (4 * count_ > n_) continue;
      Part& part = narrowed_[part_];
      UseOnly(part, Narrow(x_, place_, n_, lo_, hi_, &part), hi_);
    }
  }

  // Copies the elements between two bounds, with their places; returns their number.
  size_t Narrow(const T* x, const uint32_t* place, size_t n, T lo, T hi, Part* part) {
    FoundElements<T> found = {part->x.data(), part->place.data(), n, 0, 0};
    passes_.CollectRun(x, 0, n, {lo, hi, hi}, &found);
    for (size_t i = 0; i < found.count && place != nullptr; ++i) found.place[i] = place[found.place[i]];
    return found.count;
  }
  void UseOnly(const Part& part, size_t n, T hi) {
    part_ = 1 - part_;
    x_ = part.x.data();
    place_ = part.place.data();
    n_ = n;
    hi_ = passes_.LargestOf(x_, n_, hi);
  }

  void List() {
    entries_.clear();
    for (size_t i = 0; i < n_; ++i) {
      if (x_[i] < lo_ || x_[i] > hi_) continue;
      entries_.push_back({x_[i], place_ == nullptr ? static_cast<uint32_t>(i) : place_[i]});
    }
  }

  // All entries are equal, in the order of their places.
  Outcome AmongTies(double excess, double margin, Cut<T>* cut) const {
    const double weight = WeightOf(entries_[0].x), left_out = std::floor(excess / weight);
    if (std::floor((excess - margin) / weight) != std::floor((excess + margin) / weight)) return Outcome::kNear;
    if (left_out < 0.0) return Outcome::kNear;
    if (left_out >= static_cast<double>(entries_.size())) return Outcome::kHigher;
    const Entry& last = entries_[entries_.size() - 1 - static_cast<size_t>(left_out)];
    *cut = {last.x, last.place};
    return Outcome::kFound;
  }

  RowPasses<T>& passes_;
  Part narrowed_[2];
  std::vector<Entry> entries_;

  // What the cut may be among: `count_` of n elements, those from lo to hi.
  bool by_mass_ = false, is_exact_ = false;
  const T* x_ = nullptr;
  const uint32_t* place_ = nullptr;
  size_t n_ = 0, count_ = 0, part_ = 0;
  T lo_ = 0, hi_ = 0;
  LeftOut left_out_ = {};
};

}  // namespace boltzmax
