// Scores of classes, and the rule by which a class belongs to a prediction set: its score is at most a threshold.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../../kernels/set_types.hpp"

namespace boltzmax {

enum class ScoreKind : int { kLac, kAps, kSaps };

// With p the probability of a class, A that of all classes with larger ones, B that of these and of all with the same
// one, r = 1 + the number of classes with larger ones, and u from 0 to 1 for each row:
//
//     kLac    1 - p
//     kAps    (1 - u) A + u B + weight max(0, r - free_ranks)
//     kSaps   u max p, where r is 1; else max p + (r - 2 + u) weight
//
// None rises as p rises, roundings included.
struct ScoreRule {
  ScoreKind kind;
  double weight;
  double free_ranks;

  double Score(const LabelMass& m, double u) const {
    switch (kind) {
      case ScoreKind::kLac: return 1.0 - m.own / m.total;
      case ScoreKind::kAps: return ((1.0 - u) * (m.above / m.total) + u * (m.upper / m.total)) + Penalty(m.larger);
      case ScoreKind::kSaps: break;
    }
    const double top = m.top / m.total;
    return m.larger == 0.0 ? u * top : top + (m.larger - 1.0 + u) * weight;
  }
  // The penalty of a class that has this many larger ones.
  double Penalty(double larger) const { return weight * std::max(0.0, larger + 1.0 - free_ranks); }
};

}  // namespace boltzmax
