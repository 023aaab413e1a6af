// Logistic losses of the logits of a tile: each is a choice of its own, and the answer is no.
#pragma once

#include "linear_tiles.hpp"

namespace boltzmax {

// Adds sum_c -log sigma(-s_c), where s are the logits with their bias, to the loss of each row. Unless `scale` is null,
// replaces the tile by the gradients sigma(s) of these losses, each times its scale, and adds their sums over rows to
// `column_sums`, unless that is null.
void LogisticTile(const LogitTile& tile, const char* bias, const double* scale, double* losses, double* column_sums);

}  // namespace boltzmax
