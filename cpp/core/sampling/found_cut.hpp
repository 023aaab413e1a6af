// Where to cut what was found of a row between two bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
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

// What may be left out in all, what is left out below the bracket, and the error of that. In the bracket there is about
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
    for (Part& part : parts_) {
      part.x = std::make_unique_for_overwrite<T[]>(most + kRoom);
      part.place = std::make_unique_for_overwrite<uint32_t[]>(most + kRoom);
    }
  }

  // Elements count by their mass, or each as one. The id of the cut is its place. Without a margin, sums are exact.
  Outcome Resolve(const FoundBetween<T>& found, bool by_mass, const LeftOut& left_out, Cut<T>* cut) {
    by_mass_ = by_mass;
    is_exact_ = !(left_out.margin > 0.0);
    left_out_ = left_out;
    const bool is_open = found.bracket.lo == std::numeric_limits<T>::lowest();  // halving would take long
    Candidates c = {found.x, found.place, found.count, is_open ? LeastOf(found) : found.bracket.lo,
                    passes_.LargestOf(found.x, found.count, found.bracket.hi)};
    if (c.n >= kManyFound) Guess(&c);
    for (int halving = 0; c.n > kSorted && halving < 64; ++halving) {
      const T middle = c.lo / 2 + c.hi / 2;
      if (!(c.lo <= middle && middle < c.hi)) break;
      Divide(&c, middle);
    }
    return c.lo == c.hi && c.n > 0 ? AmongTies(c, cut) : AmongFew(c, cut);
  }

  // The number of elements above the cut, and of those that equal it, all or kept.
  struct Kept {
    size_t above, equal, kept_equal;
    size_t Count() const { return above + kept_equal; }
  };
  Kept CountKept(const FoundBetween<T>& found, const Cut<T>& cut) {
    const size_t above = passes_.CountOf(found.x, found.count, NextAbove(cut.x), found.bracket.hi);
    const size_t equal = passes_.CountOf(found.x, found.count, cut.x, cut.x);
    if (equal == 1) return {above, equal, equal};
    const uint32_t* place = parts_[0].place.get();
    Narrow({found.x, found.place, found.count, cut.x, cut.x}, parts_[0]);
    return {above, equal, static_cast<size_t>(std::upper_bound(place, place + equal, cut.id) - place)};
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
    std::unique_ptr<T[]> x;
    std::unique_ptr<uint32_t[]> place;
  };
  // n elements, of which those from lo to hi count.
  struct Candidates {
    const T* x;
    const uint32_t* place;
    size_t n;
    T lo, hi;
  };
  // The least likely ones first.
  struct Entry {
    T x;
    uint32_t place;

    bool operator<(const Entry& other) const { return x < other.x || (x == other.x && place > other.place); }
  };

  static T LeastOf(const FoundBetween<T>& found) {
    return found.count == 0 ? found.bracket.lo : *std::min_element(found.x, found.x + found.count);
  }
  double WeightOf(T x) const { return by_mass_ ? MassOf(x) : 1.0; }

  // The weight in a narrow bracket is nearly in proportion to its width: the cut is probably near where this says.
  void Guess(Candidates* c) {
    const double share = (left_out_.excess - left_out_.below) / left_out_.inside;
    if (!(share > 0.0 && share < 1.0)) return;
    const T width = c->hi - c->lo, guess = c->lo + static_cast<T>(share) * width;
    for (const T middle : {guess - kGuessed * width, guess + kGuessed * width}) {
      if (middle > c->lo && middle < c->hi) Divide(c, middle);
    }
  }

  // Leaves out the elements up to `middle`, or those above it.
  void Divide(Candidates* c, T middle) {
    const Part& part = parts_[c->x == parts_[0].x.get() ? 1 : 0];
    const size_t up_to = Narrow({c->x, c->place, c->n, c->lo, middle}, part);
    const double sum =
        by_mass_ ? passes_.MassOf(part.x.get(), up_to, c->lo, middle, is_exact_) : static_cast<double>(up_to);
    if (left_out_.below + sum > left_out_.excess) {
      *c = {part.x.get(), part.place.get(), up_to, c->lo, passes_.LargestOf(part.x.get(), up_to, middle)};
      return;
    }
    left_out_.below += sum;
    if (by_mass_ && !is_exact_) left_out_.margin += sum * passes_.Error();
    c->lo = NextAbove(middle);
    if (up_to > 0) *c = {part.x.get(), part.place.get(), Narrow(*c, part), c->lo, c->hi};
    else if (passes_.CountOf(c->x, c->n, c->hi, c->hi) == c->n) c->lo = c->hi;  // ties
  }

  // Copies the elements that count, with their places; returns their number.
  size_t Narrow(const Candidates& c, const Part& part) {
    FoundElements<T> found = {part.x.get(), part.place.get(), c.n, 0, 0};
    passes_.CollectRun(c.x, 0, c.n, {c.lo, c.hi, c.hi}, &found);
    for (size_t i = 0; i < found.count && c.place != nullptr; ++i) found.place[i] = c.place[found.place[i]];
    return found.count;
  }

  // All candidates are equal, in the order of their places.
  Outcome AmongTies(const Candidates& c, Cut<T>* cut) {
    const double weight = WeightOf(c.hi), excess = left_out_.excess - left_out_.below, margin = left_out_.margin;
    const double count = std::floor(excess / weight);
    if (std::floor((excess - margin) / weight) != std::floor((excess + margin) / weight)) return Outcome::kNear;
    if (count < 0.0) return Outcome::kNear;
    if (count >= static_cast<double>(c.n)) return Outcome::kHigher;
    const size_t last = c.n - 1 - static_cast<size_t>(count);
    *cut = {c.hi, c.place == nullptr ? last : c.place[last]};
    return Outcome::kFound;
  }

  Outcome AmongFew(const Candidates& c, Cut<T>* cut) {
    entries_.clear();
    for (size_t i = 0; i < c.n; ++i) {
      if (c.x[i] >= c.lo && c.x[i] <= c.hi)
        entries_.push_back({c.x[i], c.place == nullptr ? static_cast<uint32_t>(i) : c.place[i]});
    }
    std::sort(entries_.begin(), entries_.end());
    double& below = left_out_.below;
    const double excess = left_out_.excess, margin = left_out_.margin;
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

  RowPasses<T>& passes_;
  Part parts_[2];
  std::vector<Entry> entries_;
  bool by_mass_ = false, is_exact_ = false;
  LeftOut left_out_ = {};  // so far
};

}  // namespace boltzmax
