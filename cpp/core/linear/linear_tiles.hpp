// Losses and queries of a linear layer, whose logits come tile by tile: all that is not a matrix product. A tile's logits
// become scores, what they tell is added to what earlier tiles have told of the same rows, and at last gradients take
// their place.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"

namespace boltzmax {

// Some rows by n classes from `first` on, float or double, row after row: logits, or scores already.
struct LogitTile {
  DType storage;
  char* x;
  size_t rows, n, first;
  bool scored;
};

// A score is softcap * tanh((logit + bias) / softcap) / temperature; a softcap of 0 caps nothing.
struct Scoring {
  const char* bias;  // of the tile's classes, in its storage, or null
  double temperature, softcap;
};

// What a target gives to class c beside its label: a_c = (sharp q_c + even) w_c, of the tile's classes and in its storage.
// A missing w is 1, a missing q is 0.
struct TileShares {
  const char* q;  // rows of n
  ptrdiff_t q_stride;
  const char* w;
  double sharp, even;

  bool Any() const { return q != nullptr || even != 0.0; }
};

// What is known of each row, as distances from a score near its largest, which keep the digits that two large scores
// have in common from being lost. Null is what nobody wants to know.
struct RowTotals {
  const int64_t* label;
  double* reference;
  double* lse;     // logsumexp(s) - reference
  double* own;     // s_label - reference
  double* shared;  // sum_c a_c (reference - s_c)
  double* mass;    // sum_c a_c: added up where there are q, otherwise given
};

// The k largest scores of each row: `score` in decreasing order, of which those found so far have an id; -1 is none.
struct RowTop {
  size_t k;
  int64_t* id;
  double* score;
};

// Makes a tile's logits scores, and adds what they tell; a tile whose first class is 0 begins anew.
void AddTile(const LogitTile& tile, const Scoring& scoring, const TileShares& shares, const RowTotals& totals,
             const RowTop& top);

// Ranks that were left empty go to the first classes that have none, whose scores are -inf or NaN; then
// log_prob = score - lse.
void FinishTop(size_t rows, const RowTotals& totals, const RowTop& top);

// hard (lse - s_label) + sum_c a_c (lse - s_c) + z_loss lse^2 of every row. What has no weight counts for nothing, be it
// infinite; NaN stays NaN.
struct LossTerms {
  const double* hard;  // null where there are no labels
  bool shares;
  double z_loss;
};
void Losses(size_t rows, const RowTotals& totals, const LossTerms& terms, double* losses);

// Gradients by logits of these losses, each times its scale, in place of a tile; their sums over rows are added to
// `column_sums`, unless that is null. Rows whose loss is not finite may have gradients of NaN.
void Slopes(const LogitTile& tile, const Scoring& scoring, const TileShares& shares, const RowTotals& totals,
            const LossTerms& terms, const double* scale, double* column_sums);

}  // namespace boltzmax
