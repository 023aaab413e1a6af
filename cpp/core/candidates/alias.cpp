#include "alias.hpp"

namespace boltzmax {

namespace {

// What is left of a heavy weight. It is compared with 1 after each light slot that it has filled, and there may be
// millions of those, so its rounding errors are kept, too.
class Residue {
 public:
  explicit Residue(double weight) : hi_(weight) {}

  bool FillsMoreThanASlot() const { return hi_ > 1.0 || (hi_ == 1.0 && lo_ > 0.0); }
  double Value() const { return hi_ + lo_; }

  // Takes away what a slot lacks beside a weight.
  void Fill(double weight) {
    Add(-1.0);
    Add(weight);
  }

 private:
  void Add(double x) {
    const double sum = hi_ + x, part = sum - hi_;
    lo_ += (hi_ - (sum - part)) + (x - part);
    hi_ = sum + lo_;
    lo_ = lo_ - (hi_ - sum);
  }

  double hi_, lo_ = 0.0;
};

// Calls set(slot, threshold, alias) for each slot.
template <class Set>
void Build(const double* weights, size_t classes, Set set) {
  const auto is_heavy = [&](size_t i) { return weights[i] > 1.0; };
  const auto next = [&](size_t i, bool heavy) {
    while (i < classes && is_heavy(i) != heavy) ++i;
    return i;
  };
  size_t light = next(0, false), heavy = next(0, true);
  if (heavy < classes) {
    Residue residue(weights[heavy]);
    for (;;) {
      if (residue.FillsMoreThanASlot()) {
        if (light == classes) break;
        set(light, weights[light], heavy);
        residue.Fill(weights[light]);
        light = next(light + 1, false);
      } else {
        const size_t following = next(heavy + 1, true);
        if (following == classes) break;
        set(heavy, residue.Value(), following);
        residue.Fill(weights[following]);
        heavy = following;
      }
    }
  }
  // What is left fills whole slots, but for the rounding of the weights.
  for (; heavy < classes; heavy = next(heavy + 1, true)) set(heavy, 1.0, heavy);
  for (; light < classes; light = next(light + 1, false)) set(light, 1.0, light);
}

AliasSlot SlotOf(double threshold, size_t alias) { return {threshold, static_cast<uint32_t>(alias), 0}; }

}  // namespace

void BuildAlias(const double* weights, size_t classes, AliasSlot* slots) {
  Build(weights, classes, [&](size_t i, double threshold, size_t alias) { slots[i] = SlotOf(threshold, alias); });
}

void BuildTable(const double* weights, const double* log_p, size_t classes, TableSlot* slots) {
  Build(weights, classes, [&](size_t i, double threshold, size_t alias) {
    slots[i] = {SlotOf(threshold, alias), {log_p[i], log_p[alias]}};
  });
}

}  // namespace boltzmax
