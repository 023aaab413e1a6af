// The classes of each row that may win a draw by Gumbel noise.
#pragma once

#include <vector>

#include "../linear/interval_draws.hpp"
#include "hidden_rows.hpp"

namespace boltzmax {

// Whose logits are meant: those of the exact weights, or of the weights as they are stored.
enum class Logits { kExact, kStored };

// For each row, in order of their ids, the classes that may have the largest sum of logit and noise. Row r has the noise
// of row `first_row` + r.
std::vector<std::vector<PossibleWinner>> FindWinners(const QuantisedLayer& layer, const HiddenRows& hidden,
                                                     Logits logits, uint64_t key, uint64_t first_row);

}  // namespace boltzmax
